// SPDX-License-Identifier: Apache-2.0
// What a listener counts. Each worker has its own, so that they don't share cache lines; a reader adds them up.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mesh::relay {

/// Events by name. Names come from a few fixed texts and from what TLS says went wrong: bounded, whoever connects.
class Tally {
 public:
  static constexpr std::size_t kNamesMax = 100;  ///< Further ones are "other".

  void add(std::string_view name) {
    const std::lock_guard lock(mutex_);
    auto found = counts_.find(name);
    if (found == counts_.end()) {
      found = counts_.try_emplace(std::string(counts_.size() < kNamesMax ? name : "other"), 0).first;
    }
    ++found->second;
  }
  void add_to(std::map<std::string, std::uint64_t>& sums) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, count] : counts_) sums[name] += count;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t, std::less<>> counts_;
};

/// Of one worker; written by it, read by anybody.
struct alignas(128) ListenerStats {
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> relayed = 0;
  std::atomic<std::uint64_t> bytes_received = 0;  ///< From clients, decrypted.
  std::atomic<std::uint64_t> bytes_sent = 0;      ///< To clients, before encryption.
  std::atomic<std::uint64_t> retries = 0;
  std::atomic<std::uint64_t> resumed = 0;
  Tally handshakes;  ///< "TLSv1.3 TLS_AES_128_GCM_SHA256"
  Tally failed;      ///< Before a backend was connected: why.
  Tally ended;       ///< After, or once a challenge was answered: nothing failed.
  Tally identities;  ///< Relayed ones of the mesh: "web:80 CLIENT SERVER"; the server only where it is another node.
  Tally dry_run;     ///< Of the mesh: taken although not allowed, by service.

  /// By the one worker that writes: no need for an atomic addition.
  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
};

}  // namespace mesh::relay
