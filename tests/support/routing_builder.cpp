// SPDX-License-Identifier: Apache-2.0
#include "tests/support/routing_builder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "balance/route.hpp"

namespace mesh::support {
namespace {

void sort_endpoints(model::Service& service) {
  std::sort(service.endpoints.begin(), service.endpoints.end(),
            [](const model::Endpoint& a, const model::Endpoint& b) { return a.address < b.address; });
}

model::ServiceRoutePtr route_of(model::Service service) {
  sort_endpoints(service);
  return balance::route_service(std::make_shared<const model::Service>(std::move(service)), nullptr, nullptr);
}

}  // namespace

base::SocketAddress address(const std::string& text) {
  const auto parsed = base::SocketAddress::parse(text);
  MESH_ASSERT(parsed.has_value());
  return *parsed;
}

model::Service service(const ServiceSpec& spec) {
  model::Service service;
  service.name = spec.frontend;
  service.frontend = {address(spec.frontend), spec.protocol};
  service.algorithm = spec.algorithm;
  service.maglev_size = spec.maglev_size;
  for (const auto& [text, weight] : spec.endpoints) service.endpoints.push_back({address(text), weight, false});
  sort_endpoints(service);
  return service;
}

model::ServiceRoutePtr route(const ServiceSpec& spec) { return route_of(service(spec)); }

model::RoutingTablePtr table(std::vector<model::ServiceRoutePtr> services, std::uint64_t generation) {
  std::sort(services.begin(), services.end(),
            [](const auto& a, const auto& b) { return a->service->frontend < b->service->frontend; });
  return std::make_shared<const model::RoutingTable>(model::RoutingTable{generation, std::move(services)});
}

model::RoutingTablePtr large_table(std::uint32_t services, std::uint32_t endpoints, model::Algorithm algorithm) {
  std::vector<model::ServiceRoutePtr> routes;
  routes.reserve(services);
  for (std::uint32_t i = 0; i < services; ++i) {
    model::Service service;
    service.name = fmt::format("service-{}", i);
    service.frontend.address = address(fmt::format("240.{}.{}.{}:80", 64 + (i >> 16), (i >> 8) & 255, i & 255));
    service.algorithm = algorithm;
    for (std::uint32_t e = 0; e < endpoints; ++e) {
      const std::uint32_t n = i * endpoints + e;
      service.endpoints.push_back(
          {address(fmt::format("10.{}.{}.{}:8080", n >> 16, (n >> 8) & 255, n & 255)), 1, false});
    }
    routes.push_back(route_of(std::move(service)));
  }
  return table(std::move(routes));
}

model::RoutingTablePtr RandomChanges::next(const model::RoutingTablePtr& old, std::uint32_t max_services,
                                           std::uint32_t max_endpoints) {
  std::vector<model::ServiceRoutePtr> services = old->services;
  const std::uint64_t changes = 1 + random_.below(3);
  for (std::uint64_t i = 0; i < changes; ++i) {
    const std::uint64_t what = random_.below(10);
    if (what < 3) {
      const auto number = static_cast<std::uint32_t>(random_.below(max_services));
      model::ServiceRoutePtr added = fresh(number, max_endpoints);
      const bool known = std::any_of(services.begin(), services.end(), [&](const auto& route) {
        return route->service->frontend == added->service->frontend;
      });
      if (!known) services.push_back(std::move(added));
    } else if (services.empty()) {
      continue;
    } else if (what < 5) {
      services.erase(services.begin() + static_cast<std::ptrdiff_t>(random_.below(services.size())));
    } else {
      model::ServiceRoutePtr& chosen = services[random_.below(services.size())];
      chosen = changed(*chosen, max_endpoints);
    }
  }
  return table(std::move(services), old->generation + 1);
}

model::ServiceRoutePtr RandomChanges::fresh(std::uint32_t number, std::uint32_t max_endpoints) {
  model::Service service;
  service.name = fmt::format("service-{}", number);
  service.frontend.address =
      address(number % 3 == 2 ? fmt::format("[fd00::{:x}]:80", number + 1) : fmt::format("240.0.0.{}:80", number + 1));
  service.frontend.protocol = number % 2 == 0 ? model::Protocol::kTcp : model::Protocol::kUdp;
  service.algorithm = static_cast<model::Algorithm>(1 + random_.below(6));
  service.maglev_size = 61;
  std::set<std::uint64_t> hosts;
  for (std::uint64_t i = random_.below(max_endpoints + 1); i > 0; --i) hosts.insert(random_.below(3 * max_endpoints));
  for (const std::uint64_t host : hosts) {
    model::Endpoint endpoint;
    endpoint.address =
        address(number % 3 == 2 ? fmt::format("[fd01::{:x}]:8080", host + 1) : fmt::format("10.0.0.{}:8080", host + 1));
    endpoint.weight = static_cast<std::uint16_t>(random_.below(5));
    service.endpoints.push_back(endpoint);
  }
  return route_of(std::move(service));
}

model::ServiceRoutePtr RandomChanges::changed(const model::ServiceRoute& route, std::uint32_t max_endpoints) {
  const std::uint64_t what = random_.below(8);
  if (what < 2) {  // an endpoint goes down or comes up
    auto other = std::make_shared<model::ServiceRoute>(route);
    other->routes.clear();
    for (std::uint32_t i = 0; i < route.service->endpoints.size(); ++i) {
      const std::uint16_t weight = route.service->endpoints[i].weight;
      if (weight > 0 && random_.below(4) > 0) other->routes.push_back({i, weight});
    }
    return other;
  }
  model::Service service = *route.service;
  if (what < 4) {
    service.algorithm = static_cast<model::Algorithm>(1 + random_.below(6));
    service.affinity_timeout = std::chrono::seconds(random_.below(2) * 60);
  } else if (what < 6 && !service.endpoints.empty()) {
    if (random_.below(2) == 0) {
      service.endpoints.erase(service.endpoints.begin() +
                              static_cast<std::ptrdiff_t>(random_.below(service.endpoints.size())));
    } else {
      service.endpoints[random_.below(service.endpoints.size())].weight = static_cast<std::uint16_t>(random_.below(5));
    }
  } else {
    model::Endpoint endpoint;
    endpoint.address = service.endpoints.empty() ? address("10.0.0.99:8080") : service.endpoints.front().address;
    endpoint.address.port = static_cast<std::uint16_t>(9000 + random_.below(max_endpoints));
    const bool known = std::any_of(service.endpoints.begin(), service.endpoints.end(),
                                   [&](const model::Endpoint& one) { return one.address == endpoint.address; });
    if (!known && service.endpoints.size() < max_endpoints) service.endpoints.push_back(endpoint);
  }
  return route_of(std::move(service));
}

}  // namespace mesh::support
