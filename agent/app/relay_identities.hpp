// SPDX-License-Identifier: Apache-2.0
// The identities that applications of this host have towards other nodes (`relay.identities`), as the relay's workers
// use them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "relay/certificate_store.hpp"
#include "relay/mesh_client.hpp"

namespace mesh::app {

class RelayIdentities {
 public:
  using Libraries = std::span<const std::shared_ptr<const tls::Library>>;

  struct One {
    relay::IdentityRule rule;
    relay::CertificateStore files;
    std::shared_ptr<const tls::Certificate> shown;  ///< The last one that was good; null: there was none.
    std::vector<std::shared_ptr<const tls::ClientContext>> contexts;  ///< By worker; empty: of no use.
    std::optional<base::Error> refused;                               ///< Why what the files hold is not in use.
  };

  /// As the settings have them; files are read by look().
  void set(const relay::Settings& settings);
  /// Reads files that changed and makes contexts of them, one for each library: with the certificate before while the
  /// new one can't be used, and always with the newest trust. True if something is different.
  bool look(relay::CertificateStore::Look how, Libraries libraries);
  /// As this worker has them: the same pointer until something is different.
  [[nodiscard]] std::shared_ptr<const relay::MeshIdentities> of_worker(std::size_t worker);

  [[nodiscard]] const std::vector<One>& all() const { return all_; }

 private:
  static base::Result<void> renew(One& one, Libraries libraries);
  static base::Result<void> make_contexts(One& one, std::shared_ptr<const tls::Certificate> shown, Libraries libraries);
  std::vector<One> all_;
  std::vector<std::shared_ptr<const relay::MeshIdentities>> made_;  ///< By worker; empty: to be made.
};

/// Of what its rule says; nothing may be left that the parser would not have taken.
relay::IdentityRule identity_rule(const relay::ClientIdentity& identity);

}  // namespace mesh::app
