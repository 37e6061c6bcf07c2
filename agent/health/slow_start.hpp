// SPDX-License-Identifier: Apache-2.0
// Slow start: an endpoint that is new, or back from wherever it was, gets a growing share of its weight, so that cold
// caches and lazy connections are not met by a crowd. Pure: takes `now` and the routing table, returns what changed.
//
// The endpoints of a service that is seen for the first time (the agent starts, the service is new) count as started:
// among equals there is nothing to spare. A share grows in steps, since each is an update of the kernel's tables. The
// first is taken by the router itself (balance/route.hpp), in the table in which the endpoint first is; it says so in
// the route, and is told the share from then on.
#pragma once

#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "model/routing.hpp"

namespace mesh::health {

struct StartShare {
  model::Frontend frontend;
  base::SocketAddress endpoint;
  unsigned percent = 100;  ///< 100: started, or nothing to do with slow start any more.
  bool operator==(const StartShare&) const = default;
};

/// After `elapsed` of `slow_start`: 10, 20, ... 100.
[[nodiscard]] unsigned start_percent(base::Duration elapsed, base::Duration slow_start);

class SlowStart {
 public:
  /// What is different from the look before.
  std::vector<StartShare> look(base::TimePoint now, const model::RoutingTablePtr& routing);

 private:
  struct Endpoint {
    base::SocketAddress address;
    bool serving = false;
    unsigned percent = 100;
    base::TimePoint begin{};
  };
  struct Service {
    model::ServiceRoutePtr route;
    std::vector<Endpoint> endpoints;  ///< Sorted by address, as in the route's service.
    bool starting = false;            ///< Somebody has less than 100 percent.
  };

  void follow(base::TimePoint now, const model::RoutingTable& routing, std::vector<StartShare>& changes);
  static void follow_service(base::TimePoint now, const model::ServiceRoutePtr& route, Service& service,
                             std::vector<StartShare>& changes);
  static void advance(base::TimePoint now, Service& service, std::vector<StartShare>& changes);

  model::RoutingTablePtr routing_;
  std::unordered_map<model::Frontend, Service, model::FrontendHash> services_;  ///< Those with slow start.
};

}  // namespace mesh::health
