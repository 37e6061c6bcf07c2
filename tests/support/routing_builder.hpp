// SPDX-License-Identifier: Apache-2.0
// Services and routing tables for tests, from few words and from a seed.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/random.hpp"
#include "model/routing.hpp"

namespace mesh::support {

/// "10.0.0.1:80" or "[fd00::1]:80"; wrong text ends the test.
base::SocketAddress address(const std::string& text);

struct ServiceSpec {
  std::string frontend;
  std::vector<std::pair<std::string, std::uint16_t>> endpoints;  ///< Address and weight; any order.
  model::Algorithm algorithm = model::Algorithm::kWeightedRandom;
  model::Protocol protocol = model::Protocol::kTcp;
  std::uint32_t maglev_size = 251;
};
model::Service service(const ServiceSpec& spec);
model::ServiceRoutePtr route(const ServiceSpec& spec);  ///< All endpoints with a weight are routed to.

/// Sorts by frontend.
model::RoutingTablePtr table(std::vector<model::ServiceRoutePtr> services, std::uint64_t generation = 1);

/// `services` services of `endpoints` endpoints each, weights 1; as a large cluster would have.
model::RoutingTablePtr large_table(std::uint32_t services, std::uint32_t endpoints, model::Algorithm algorithm);

/// Changes a routing table in the ways that sources and probes do, keeping the pointers of what it leaves alone:
/// services come, go and change their settings; endpoints come, go, change weights, go down and come up.
class RandomChanges {
 public:
  explicit RandomChanges(std::uint64_t seed) : random_(seed) {}
  /// At most `max_services` of at most `max_endpoints`.
  model::RoutingTablePtr next(const model::RoutingTablePtr& table, std::uint32_t max_services = 8,
                              std::uint32_t max_endpoints = 6);

 private:
  model::ServiceRoutePtr changed(const model::ServiceRoute& route, std::uint32_t max_endpoints);
  model::ServiceRoutePtr fresh(std::uint32_t number, std::uint32_t max_endpoints);

  base::Random random_;
};

}  // namespace mesh::support
