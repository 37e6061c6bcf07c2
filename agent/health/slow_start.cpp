// SPDX-License-Identifier: Apache-2.0
#include "health/slow_start.hpp"

#include <algorithm>
#include <unordered_set>

namespace mesh::health {
namespace {

constexpr unsigned kStep = model::kStartPercent;
constexpr unsigned kWhole = 100;

}  // namespace

unsigned start_percent(base::Duration elapsed, base::Duration slow_start) {
  if (elapsed >= slow_start) return kWhole;
  const auto steps = std::max<base::Duration::rep>(0, elapsed.count()) * (kWhole / kStep) / slow_start.count();
  return static_cast<unsigned>(std::max<base::Duration::rep>(1, steps)) * kStep;
}

std::vector<StartShare> SlowStart::look(base::TimePoint now, const model::RoutingTablePtr& routing) {
  std::vector<StartShare> changes;
  if (routing && routing != routing_) follow(now, *routing, changes);
  if (routing) routing_ = routing;
  for (auto& [frontend, service] : services_) {
    if (service.starting) advance(now, service, changes);
  }
  return changes;
}

void SlowStart::follow(base::TimePoint now, const model::RoutingTable& routing, std::vector<StartShare>& changes) {
  std::unordered_set<model::Frontend, model::FrontendHash> gone;
  for (const auto& [frontend, service] : services_) gone.insert(frontend);
  for (const model::ServiceRoutePtr& route : routing.services) {
    if (route->service->slow_start == std::chrono::seconds(0)) continue;
    gone.erase(route->service->frontend);
    Service& service = services_[route->service->frontend];
    if (service.route != route) follow_service(now, route, service, changes);
  }
  for (const model::Frontend& frontend : gone) {
    for (const Endpoint& endpoint : services_[frontend].endpoints) {
      if (endpoint.percent != kWhole) changes.push_back({frontend, endpoint.address, kWhole});
    }
    services_.erase(frontend);
  }
}

void SlowStart::follow_service(base::TimePoint now, const model::ServiceRoutePtr& route, Service& service,
                               std::vector<StartShare>& changes) {
  const bool first_sight = !service.route;
  const std::vector<model::Endpoint>& wanted = route->service->endpoints;
  std::vector<Endpoint> next;
  next.reserve(wanted.size());
  auto old = service.endpoints.begin();
  const auto leave = [&] {
    if (old->percent != kWhole) changes.push_back({route->service->frontend, old->address, kWhole});
    ++old;
  };
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    while (old != service.endpoints.end() && old->address < wanted[i].address) leave();
    const bool known = old != service.endpoints.end() && old->address == wanted[i].address;
    Endpoint endpoint = known ? *old++ : Endpoint{.address = wanted[i].address};
    const bool serving = model::serves(route->eligibility[i]);
    const bool begun = serving && !endpoint.serving && !first_sight;
    if (begun || (endpoint.percent == kWhole && std::ranges::binary_search(route->beginning, endpoint.address))) {
      endpoint.begin = now;
      service.starting = true;
      if (endpoint.percent != kStep) changes.push_back({route->service->frontend, endpoint.address, kStep});
      endpoint.percent = kStep;
    }
    endpoint.serving = serving;
    next.push_back(endpoint);
  }
  while (old != service.endpoints.end()) leave();
  service.endpoints = std::move(next);
  service.route = route;
}

void SlowStart::advance(base::TimePoint now, Service& service, std::vector<StartShare>& changes) {
  service.starting = false;
  for (Endpoint& endpoint : service.endpoints) {
    if (endpoint.percent == kWhole) continue;
    const unsigned percent = start_percent(now - endpoint.begin, service.route->service->slow_start);
    if (percent != endpoint.percent) {
      changes.push_back({service.route->service->frontend, endpoint.address, percent});
    }
    endpoint.percent = percent;
    service.starting = service.starting || percent != kWhole;
  }
}

}  // namespace mesh::health
