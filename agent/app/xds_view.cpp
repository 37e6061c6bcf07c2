// SPDX-License-Identifier: Apache-2.0
#include "app/xds_view.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "app/internal_source.hpp"
#include "balance/locality.hpp"

namespace mesh::app {
namespace {

using model::Eligibility;

xds::Health health_of(Eligibility eligibility) {
  if (model::serves(eligibility)) return xds::Health::kHealthy;
  const bool leaves = eligibility == Eligibility::kDraining || eligibility == Eligibility::kWeightZero;
  return leaves ? xds::Health::kDraining : xds::Health::kUnhealthy;
}

}  // namespace

XdsView::XdsView(model::Place here, std::string domain) : here_(std::move(here)) {
  auto world = std::make_shared<xds::World>();
  world->domain = std::move(domain);
  world_ = std::move(world);
}

xds::ServedPtr XdsView::serve(const std::string& name, const Routes& routes) const {
  using Priority = std::pair<unsigned, unsigned>;  // tier, distance
  std::map<Priority, std::map<std::string, xds::Locality>> found;
  for (const model::ServiceRoutePtr& route : routes) {
    const model::Service& service = *route->service;
    for (std::size_t i = 0; i < service.endpoints.size(); ++i) {
      const model::Endpoint& endpoint = service.endpoints[i];
      const Priority priority{endpoint.tier, balance::distance(service, endpoint, here_)};
      xds::Locality& locality = found[priority][endpoint.zone];
      locality.zone = endpoint.zone;
      const std::uint32_t weight = std::max<std::uint32_t>(endpoint.weight, 1);
      const xds::Health health = health_of(route->eligibility[i]);
      if (health == xds::Health::kHealthy) locality.weight = locality.weight.value_or(0) + weight;
      locality.endpoints.push_back({.address = endpoint.address.ip.to_string(),
                                    .port = endpoint.address.port,
                                    .health = health,
                                    .weight = weight});
    }
  }
  auto served = std::make_shared<xds::Served>();
  served->name = name;
  served->assignment.name = name;
  std::uint32_t number = 0;
  for (auto& [priority, localities] : found) {
    for (auto& [zone, locality] : localities) {
      locality.priority = number;
      if (!locality.weight) locality.weight = 1;  // without a weight gRPC would not even count the priority
      served->assignment.localities.push_back(std::move(locality));
    }
    ++number;
  }
  return served;
}

xds::WorldPtr XdsView::look(const model::RoutingTable& table) {
  std::map<std::string, Routes> routes;
  for (const model::ServiceRoutePtr& route : table.services) {
    const model::Service& service = *route->service;
    if (service.frontend.protocol != model::Protocol::kTcp || service.source == kInternalSource) continue;
    if (service.is_relayed()) continue;  // who went to its endpoints directly would go without TLS
    routes[service.name + ":" + std::to_string(service.frontend.address.port)].push_back(route);
  }
  auto world = std::make_shared<xds::World>(*world_);
  bool changed = std::erase_if(world->services, [&](const auto& one) { return !routes.contains(one.first); }) > 0;
  for (const auto& [name, made_of] : routes) {
    xds::ServedPtr& served = world->services[name];
    const auto before = made_of_.find(name);
    if (served && before != made_of_.end() && before->second == made_of) continue;
    auto fresh = serve(name, made_of);
    if (served && served->assignment == fresh->assignment) continue;
    served = std::move(fresh);
    changed = true;
  }
  made_of_ = std::move(routes);
  if (changed) {
    ++world->version;
    world_ = std::move(world);
  }
  return world_;
}

}  // namespace mesh::app
