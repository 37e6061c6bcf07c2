// SPDX-License-Identifier: Apache-2.0
// Where connections of one service go: the table that balance/ builds for the kernel, drawn from in user space.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "balance/table.hpp"
#include "base/random.hpp"
#include "model/routing.hpp"
#include "relay/endpoint_load.hpp"

namespace mesh::relay {

/// Immutable but for what it counts; any number of threads draw from it.
class Target {
 public:
  /// `loads`: of all services. `previous`: what the same service had until now, whose turn is carried on; may be null.
  Target(model::ServiceRoutePtr route, EndpointLoads& loads, const Target* previous);

  struct Choice {
    std::uint32_t route = 0;  ///< For `tried`.
    base::SocketAddress address;
    std::shared_ptr<EndpointLoad> load;
  };
  /// An endpoint that is not among those `tried` already; nothing if there is none. `client_key`: of the client, for
  /// algorithms that keep it where it was.
  ///   least_connections and latency compare the relay's own connections of two draws; round_robin is a turn that the
  ///   workers share. A second try is the next endpoint in order, whatever the algorithm.
  [[nodiscard]] std::optional<Choice> choose(base::Random& random, std::uint64_t client_key,
                                             std::span<const std::uint32_t> tried) const;

  [[nodiscard]] const model::ServiceRoute& route() const { return *route_; }

 private:
  [[nodiscard]] std::uint32_t draw(base::Random& random, std::uint64_t client_key) const;
  [[nodiscard]] std::uint32_t pick(base::Random& random) const;

  model::ServiceRoutePtr route_;
  balance::Table table_;
  std::vector<std::shared_ptr<EndpointLoad>> loads_;  ///< Parallel to route_->routes.
  mutable std::atomic<std::uint64_t> turn_ = 0;
};

using TargetPtr = std::shared_ptr<const Target>;

}  // namespace mesh::relay
