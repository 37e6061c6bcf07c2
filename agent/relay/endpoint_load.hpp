// SPDX-License-Identifier: Apache-2.0
// What the connections of this relay experience with each endpoint of a service. The agent is told: it knows who is
// ejected and who is being left.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "base/address.hpp"

namespace mesh::relay {

/// Of one endpoint; shared by all workers, by one table and the next, and by connections that outlive both.
struct EndpointLoad {
  std::atomic<std::uint32_t> active = 0;   ///< Connections that are being made or open.
  std::atomic<std::uint32_t> open = 0;     ///< Of them, those that are relayed.
  std::atomic<std::uint32_t> max_age = 0;  ///< Seconds after which a connection to it ends; 0: any.
  // Since the relay's start.
  std::atomic<std::uint64_t> begun = 0;
  std::atomic<std::uint64_t> established = 0;  ///< With TLS, where it is spoken with the endpoint.
  std::atomic<std::uint64_t> refused = 0;
  std::atomic<std::uint64_t> timed_out = 0;
  std::atomic<std::uint64_t> unreachable = 0;
  std::atomic<std::uint64_t> not_agreed = 0;  ///< TLS failed, or the relay there refused.
  std::atomic<std::uint64_t> closed = 0;      ///< Relayed ones, by anything but the next.
  std::atomic<std::uint64_t> cut_off = 0;     ///< By a reset of the endpoint, or because it answered no more.

  using Counter = std::atomic<std::uint64_t> EndpointLoad::*;
  void count(Counter what) { (this->*what).fetch_add(1, std::memory_order_relaxed); }
};

/// All that are in use, by the address of the service and that of the endpoint. Of one thread.
class EndpointLoads {
 public:
  using Key = std::pair<base::SocketAddress, base::SocketAddress>;

  std::shared_ptr<EndpointLoad> at(const Key& key) {
    auto& load = loads_[key];
    if (!load) load = std::make_shared<EndpointLoad>();
    return load;
  }
  /// Null: there is none.
  [[nodiscard]] std::shared_ptr<EndpointLoad> find(const Key& key) const {
    const auto known = loads_.find(key);
    return known == loads_.end() ? nullptr : known->second;
  }
  [[nodiscard]] const std::map<Key, std::shared_ptr<EndpointLoad>>& all() const { return loads_; }
  /// Forgets those that neither a table nor a connection has.
  void prune() {
    std::erase_if(loads_, [](const auto& one) { return one.second.use_count() == 1; });
  }

 private:
  std::map<Key, std::shared_ptr<EndpointLoad>> loads_;
};

}  // namespace mesh::relay
