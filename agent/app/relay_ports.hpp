// SPDX-License-Identifier: Apache-2.0
// Services whose connections the relay speaks TLS for, as the kernel has them: with one backend, a port of loopback
// that stands for the service in every network namespace (docs/decisions/0015-origination.md).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "model/routing.hpp"

namespace mesh::app {

inline constexpr std::uint32_t kRelayPortsMax = 1024;  ///< As many services.

class RelayPorts {
 public:
  explicit RelayPorts(std::uint16_t first) : first_(first), next_(first) {}

  /// The port that the kernel's tables name: connections under way still mean it. For a service before its first
  /// table.
  void restore(const model::Frontend& frontend, std::uint16_t port);

  /// The table for the kernel: the same pointer if no service is relayed, and stand-ins that did not change keep
  /// theirs. A service keeps its port as long as it is there, and one that is given up is the last to be given again. A
  /// service that has no endpoint to go to, or that gets no port, has no route: connections are refused.
  model::RoutingTablePtr stand_in(const model::RoutingTablePtr& routing);

  /// Services of the last table that got no port.
  [[nodiscard]] const std::vector<model::Frontend>& without_port() const { return without_port_; }

 private:
  struct Port {
    std::uint16_t port = 0;
    model::ServicePtr of;  ///< What the stand-in was made for.
    model::ServiceRoutePtr stand_in;
  };
  [[nodiscard]] std::uint16_t take_port();
  model::ServiceRoutePtr stand_in(const model::ServiceRoute& route);

  const std::uint16_t first_;
  std::uint16_t next_;
  std::map<model::Frontend, Port> ports_;
  std::set<std::uint16_t> taken_;
  std::vector<model::Frontend> without_port_;
  model::RoutingTablePtr made_for_;
  model::RoutingTablePtr made_;
};

}  // namespace mesh::app
