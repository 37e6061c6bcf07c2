// SPDX-License-Identifier: Apache-2.0
// Fetches and renews certificates, on a thread of its own: straight through, one after the other. Decisions are those
// of acme/issuance.hpp and acme/schedule.hpp; this asks over HTTP, reads the clock and writes files.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "acme/board.hpp"
#include "acme/folder.hpp"
#include "acme/issuance.hpp"
#include "acme/schedule.hpp"
#include "acme/settings.hpp"
#include "base/fd.hpp"
#include "http/fetch.hpp"

namespace mesh::acme {

/// One certificate, for people.
struct Standing {
  std::string name;
  std::vector<std::string> names;
  std::string issuer;  ///< As the certificate says; empty: there is none yet.
  std::optional<base::WallTime> expires;
  std::optional<base::WallTime> next;  ///< When it is fetched next.
  std::uint64_t issued = 0;            ///< Since the relay's start, as the next.
  std::uint64_t failures = 0;
  std::string error;  ///< Of the last time; empty: it went well.
};

class CertificateFetcher {
 public:
  explicit CertificateFetcher(std::uint64_t seed);
  ~CertificateFetcher();

  /// From any thread: what is wanted now; the same again changes nothing.
  void set(const Settings& settings);
  [[nodiscard]] std::vector<Standing> standing() const;
  [[nodiscard]] std::string error() const;  ///< Why nothing is fetched at all.
  [[nodiscard]] const Board& board() const { return board_; }

 private:
  struct Entry {
    CertificateSettings wanted;
    Schedule schedule;
    Standing standing;
    std::string renewal_name{};
  };

  void run();
  [[nodiscard]] bool stopped() const;
  bool take_settings();
  base::Result<void> prepare();
  void work(base::WallTime now);
  void read(Entry& entry);
  void issue(Entry& entry);
  base::Result<void> store(Entry& entry, const tls::PrivateKey& key, const std::string& chain);
  std::variant<Issued, Failed> drive(Issuance& issuance);
  void present(const std::optional<Presented>& wanted);
  void ask_window(Entry& entry);
  base::Result<Answer> ask(const Send& send);
  [[nodiscard]] base::Duration until_due() const;
  bool sleep(base::Duration duration);
  void publish();

  Board board_;
  base::Fd wake_;

  mutable std::mutex mutex_;
  Settings settings_;  ///< Guarded by mutex_, as the next ones.
  bool changed_ = false;
  bool stop_ = false;
  std::vector<Standing> standing_;
  std::string error_;

  // The thread's own.
  base::Random random_;
  Settings current_;
  std::optional<Folder> folder_;
  std::unique_ptr<http::Fetcher> http_;
  std::string renewal_info_;  ///< URL, as the directory said last.
  std::vector<Entry> entries_;
  std::optional<Presented> presented_;
  std::thread thread_;
};

}  // namespace mesh::acme
