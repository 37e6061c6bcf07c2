// SPDX-License-Identifier: Apache-2.0
#include "balance/route.hpp"

#include <utility>

namespace mesh::balance {
namespace {

using model::Eligibility;

Eligibility judge(const model::Service& service, const model::Endpoint& endpoint, const model::EndpointHealth* health) {
  if (endpoint.draining) return Eligibility::kDraining;
  if (endpoint.weight == 0) return Eligibility::kWeightZero;
  if (!service.probe) return Eligibility::kEligible;
  const model::Verdict verdict = health == nullptr ? model::Verdict::kUnknown : health->verdict;
  if (verdict == model::Verdict::kDown) return Eligibility::kProbeDown;
  const bool awaiting = verdict == model::Verdict::kUnknown && service.probe->require_initial_check;
  return awaiting ? Eligibility::kAwaitingCheck : Eligibility::kEligible;
}

/// Turns kProbeDown into kPanic where the rule at the top of route.hpp says so; returns whether it did.
bool panic(const model::Service& service, const model::ServiceHealth& health, std::vector<Eligibility>& eligibility) {
  std::size_t eligible = 0;
  std::size_t down = 0;
  for (const Eligibility one : eligibility) {
    eligible += one == Eligibility::kEligible;
    down += one == Eligibility::kProbeDown;
  }
  const std::size_t candidates = eligible + down;
  if (candidates < kPanicMinimum || eligible * 100 >= service.panic_threshold_percent * candidates) return false;
  bool any = false;
  for (std::size_t i = 0; i < eligibility.size(); ++i) {
    if (eligibility[i] != Eligibility::kProbeDown) continue;
    if (health.find(service.endpoints[i].address)->reason == model::ProbeReason::kRefused) continue;
    eligibility[i] = Eligibility::kPanic;
    any = true;
  }
  return any;
}

}  // namespace

model::ServiceRoutePtr route_service(const model::ServicePtr& service, const model::ServiceHealthPtr& health) {
  auto route = std::make_shared<model::ServiceRoute>();
  route->service = service;
  route->health = health;
  const std::vector<model::Endpoint>& endpoints = service->endpoints;
  route->eligibility.reserve(endpoints.size());
  for (const model::Endpoint& endpoint : endpoints) {
    route->eligibility.push_back(judge(*service, endpoint, health ? health->find(endpoint.address) : nullptr));
  }
  if (health) route->panic = panic(*service, *health, route->eligibility);
  route->routes.reserve(endpoints.size());
  for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
    const Eligibility one = route->eligibility[i];
    if (one != Eligibility::kEligible && one != Eligibility::kPanic) continue;
    route->routes.push_back({i, endpoints[i].weight});
  }
  return route;
}

model::RoutingTablePtr Router::route(const model::SnapshotPtr& snapshot, const model::HealthView& health) {
  auto next = std::make_shared<model::RoutingTable>();
  next->generation = last_->generation + 1;
  next->services.reserve(snapshot->services.size());
  static const model::ServiceHealthPtr kNotProbed;
  bool changed = snapshot->services.size() != last_->services.size();
  auto old = last_->services.begin();
  const auto old_end = last_->services.end();
  for (const model::ServicePtr& service : snapshot->services) {
    const model::ServiceHealthPtr* known = &kNotProbed;
    if (service->probe) {
      const auto found = health.find(service->frontend);
      if (found != health.end()) known = &found->second;
    }
    while (old != old_end && (*old)->service != service && (*old)->service->frontend < service->frontend) ++old;
    if (old != old_end && (*old)->service == service && (*old)->health == *known) {
      next->services.push_back(*old);
    } else {
      next->services.push_back(route_service(service, *known));
      changed = true;
    }
  }
  if (changed || next->generation == 1) last_ = std::move(next);
  return last_;
}

}  // namespace mesh::balance
