// SPDX-License-Identifier: Apache-2.0
// The certificates of one listener, as their files are. Whoever has the store looks again from time to time: by stat(),
// which sees renamed files, folders and swapped symbolic links alike, on every file system. What can't be used is
// refused, and what was read from these files before stays in use.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "relay/settings.hpp"
#include "tls/client.hpp"
#include "tls/server.hpp"

namespace mesh::relay {

/// A certificate of the listener. Two files: the second of them is the key's.
struct CertificateState {
  CertificatePair files;
  std::shared_ptr<const tls::Certificate> in_use;  ///< nullptr: none could be read yet.
  std::optional<base::Error> refused;              ///< Why what the files hold now is not in use.
};

class CertificateStore {
 public:
  explicit CertificateStore(TlsSettings settings);

  /// Other files; what is in use from those that are named still stays. The next look counts at once.
  void change(TlsSettings settings);

  enum class Look : std::uint8_t {
    kSettled,  ///< What changed counts when two looks saw the same: two files are not replaced at one instant.
    kAtOnce,   ///< Whoever asks says that the files are in order.
  };
  /// True if something else is in use or refused than before. The first look counts at once.
  bool look(Look how = Look::kSettled);

  /// What is in use, without tickets and scope. kInvalid if that is not enough to listen: no certificate at all, or
  /// clients have to be verified and there is nobody to verify them by. With `challenges` to answer, a certificate may
  /// be what is still to come.
  [[nodiscard]] base::Result<tls::ServerOptions> options(
      std::shared_ptr<const tls::Challenges> challenges = nullptr) const;

  /// The certificate, never null, where the settings name one to show as a client. kInvalid if it can't be used, or if
  /// the folder has none, or more than one.
  [[nodiscard]] base::Result<std::shared_ptr<const tls::Certificate>> identity() const;
  /// As options(), of the client's side: what is shown (`shown`, or else identity() if anything is named), and who is
  /// trusted. kInvalid if what is named can't be used.
  [[nodiscard]] base::Result<tls::ClientContext::Options> client_options(
      std::shared_ptr<const tls::Certificate> shown = nullptr) const;

  [[nodiscard]] const TlsSettings& settings() const { return settings_; }
  /// In the order of the settings, those of a folder by name.
  [[nodiscard]] const std::vector<CertificateState>& certificates() const { return certificates_; }
  [[nodiscard]] const std::shared_ptr<const tls::Authorities>& authorities() const { return authorities_; }
  /// Where the settings name trust bundles; null: none could be read yet.
  [[nodiscard]] const std::shared_ptr<const tls::Trust>& trust() const { return trust_; }
  /// The first reason why something that the files hold now is not in use.
  [[nodiscard]] std::optional<base::Error> refused() const;

 private:
  [[nodiscard]] std::vector<CertificatePair> list_pairs();
  void read(CertificateState& state) const;
  void read_authorities();
  void read_trust();

  TlsSettings settings_;
  std::vector<CertificateState> certificates_;
  std::shared_ptr<const tls::Authorities> authorities_;
  std::shared_ptr<const tls::Trust> trust_;
  std::optional<base::Error> authorities_refused_;
  std::optional<base::Error> folder_refused_;
  std::string taken_;  ///< All files as they were when they were read, and as they were seen last.
  std::string seen_;
};

}  // namespace mesh::relay
