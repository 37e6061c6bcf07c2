// SPDX-License-Identifier: Apache-2.0
#include "balance/route.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "balance/locality.hpp"

namespace mesh::balance {
namespace {

using model::Eligibility;

constexpr unsigned kWholePercent = 100;
constexpr std::uint32_t kWeightMax = 65535;

/// An endpoint, and what is known of it.
struct Candidate {
  const model::Endpoint& endpoint;
  const model::EndpointHealth* health;
  const model::EndpointStanding* standing;
  bool beginning = false;  ///< A slow start.
};

std::vector<Candidate> candidates_of(const model::Service& service, const model::ServiceHealth* health,
                                     const model::ServiceStanding* standing) {
  std::vector<Candidate> candidates;
  candidates.reserve(service.endpoints.size());
  for (const model::Endpoint& endpoint : service.endpoints) {
    candidates.push_back({endpoint, health ? health->find(endpoint.address) : nullptr,
                          standing ? standing->find(endpoint.address) : nullptr, false});
  }
  return candidates;
}

Eligibility judge(const model::Service& service, const Candidate& candidate) {
  const auto& [endpoint, health, standing, beginning] = candidate;
  if (endpoint.draining || (standing && standing->drained)) return Eligibility::kDraining;
  if (endpoint.weight == 0) return Eligibility::kWeightZero;
  if (standing && standing->ejection == model::Ejection::kEjected) return Eligibility::kEjected;
  const bool unconfirmed = service.needs_confirmation(endpoint);
  if (!service.probe) return unconfirmed ? Eligibility::kUnconfirmed : Eligibility::kEligible;
  const model::Verdict verdict = health == nullptr ? model::Verdict::kUnknown : health->verdict;
  if (unconfirmed) return verdict == model::Verdict::kUp ? Eligibility::kEligible : Eligibility::kUnconfirmed;
  if (verdict == model::Verdict::kDown) return Eligibility::kProbeDown;
  const bool awaiting = verdict == model::Verdict::kUnknown && service.probe->require_initial_check;
  return awaiting ? Eligibility::kAwaitingCheck : Eligibility::kEligible;
}

bool refuses(const Candidate& candidate) {
  const bool by_probe = candidate.health != nullptr && candidate.health->verdict == model::Verdict::kDown &&
                        candidate.health->reason == model::ProbeReason::kRefused;
  return by_probe || (candidate.standing != nullptr && candidate.standing->refuses);
}

/// Turns kProbeDown and kEjected into kPanic where the rule at the top of route.hpp says so; returns whether it did.
bool panic(const model::Service& service, const std::vector<Candidate>& candidates,
           std::vector<Eligibility>& eligibility) {
  const auto is_out = [](Eligibility one) { return one == Eligibility::kProbeDown || one == Eligibility::kEjected; };
  struct Count {
    std::size_t eligible = 0;
    std::size_t could_serve = 0;
  };
  std::map<std::uint8_t, Count> tiers;
  std::size_t could_serve = 0;
  for (std::size_t i = 0; i < eligibility.size(); ++i) {
    const bool eligible = eligibility[i] == Eligibility::kEligible;
    if (!eligible && !is_out(eligibility[i])) continue;
    Count& tier = tiers[candidates[i].endpoint.tier];
    tier.eligible += eligible;
    ++tier.could_serve;
    ++could_serve;
  }
  const auto is_sound = [&](const auto& tier) {
    return tier.second.eligible * 100 >= service.panic_threshold_percent * tier.second.could_serve;
  };
  if (could_serve < kPanicMinimum || std::ranges::any_of(tiers, is_sound)) return false;
  bool any = false;
  for (std::size_t i = 0; i < eligibility.size(); ++i) {
    if (!is_out(eligibility[i]) || refuses(candidates[i])) continue;
    eligibility[i] = Eligibility::kPanic;
    any = true;
  }
  return any;
}

unsigned share_of(const Candidate& candidate) {
  if (candidate.beginning) return model::kStartPercent;
  return candidate.standing == nullptr ? kWholePercent
                                       : std::clamp(candidate.standing->share_percent, 1U, kWholePercent);
}

/// Whether the endpoint served before, and was not at the very beginning of its slow start.
bool served(const model::ServiceRoute& previous, const base::SocketAddress& address) {
  const auto& endpoints = previous.service->endpoints;
  const auto found = std::ranges::lower_bound(endpoints, address, {}, &model::Endpoint::address);
  if (found == endpoints.end() || found->address != address) return false;
  return model::serves(previous.eligibility[static_cast<std::size_t>(found - endpoints.begin())]) &&
         !std::ranges::binary_search(previous.beginning, address);
}

/// Endpoints that did not serve in the previous route begin with little; as soon as the standing says how much, that
/// counts.
void begin_slowly(std::vector<Candidate>& candidates, const model::ServiceRoute& previous, model::ServiceRoute& route) {
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Candidate& candidate = candidates[i];
    if (!model::serves(route.eligibility[i]) || share_of(candidate) != kWholePercent) continue;
    candidate.beginning = !served(previous, candidate.endpoint.address);
    if (candidate.beginning) route.beginning.push_back(candidate.endpoint.address);
  }
}

/// What every weight of the service is multiplied with before shares are taken: as much as the largest weight allows.
std::uint32_t scale_of(const std::vector<Candidate>& candidates, const std::vector<model::Route>& routes) {
  std::uint32_t largest = 1;
  bool any_share = false;
  for (const model::Route& route : routes) {
    largest = std::max<std::uint32_t>(largest, route.weight);
    any_share = any_share || share_of(candidates[route.endpoint]) != kWholePercent;
  }
  return any_share ? std::min(kWholePercent, kWeightMax / largest) : 1;
}

bool has_tiers(const model::Service& service) {
  return service.prefer != model::Preference::kNone ||
         std::ranges::any_of(service.endpoints, [](const model::Endpoint& endpoint) { return endpoint.tier != 0; });
}

/// The tier of each endpoint among those that there are: by its own tier first, then by its distance.
std::vector<std::size_t> rank(const model::Service& service, const model::Place& here, std::size_t& tiers) {
  std::vector<unsigned> keys;
  keys.reserve(service.endpoints.size());
  for (const model::Endpoint& endpoint : service.endpoints) {
    keys.push_back(endpoint.tier * kDistances + distance(service, endpoint, here));
  }
  std::vector<unsigned> distinct = keys;
  std::ranges::sort(distinct);
  const auto [first, last] = std::ranges::unique(distinct);
  distinct.erase(first, last);
  tiers = distinct.size();
  std::vector<std::size_t> ranks;
  ranks.reserve(keys.size());
  for (const unsigned key : keys) {
    ranks.push_back(static_cast<std::size_t>(std::ranges::lower_bound(distinct, key) - distinct.begin()));
  }
  return ranks;
}

/// Scales the weights of the routes so that each tier gets its share; routes of tiers that get none go.
void prefer_first(model::ServiceRoute& route, const model::Place& here) {
  const model::Service& service = *route.service;
  std::size_t count = 0;
  const std::vector<std::size_t> ranks = rank(service, here, count);
  if (count < 2) return;
  std::vector<Tier> tiers(count);
  std::vector<std::uint64_t> routed(count);
  for (std::size_t i = 0; i < service.endpoints.size(); ++i) {
    const std::uint16_t weight = service.endpoints[i].weight;
    const Eligibility one = route.eligibility[i];
    if (one == Eligibility::kEligible) tiers[ranks[i]].usable += weight;
    if (one != Eligibility::kDraining) tiers[ranks[i]].could_serve += weight;
  }
  const std::vector<double> shares = spill_over(tiers, service.prefer_threshold_percent);
  for (const model::Route& one : route.routes) routed[ranks[one.endpoint]] += one.weight;
  std::erase_if(route.routes, [&](const model::Route& one) {
    const bool far = shares[ranks[one.endpoint]] <= 0;
    if (far) route.eligibility[one.endpoint] = Eligibility::kFar;
    return far;
  });
  if (std::ranges::count_if(shares, [](double share) { return share > 0; }) < 2) return;
  std::vector<double> weights;
  for (const model::Route& one : route.routes) {
    const std::size_t tier = ranks[one.endpoint];
    weights.push_back(one.weight * shares[tier] / static_cast<double>(routed[tier]));
  }
  const double largest = *std::ranges::max_element(weights);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double scaled = std::round(weights[i] * kWeightMax / largest);
    route.routes[i].weight = static_cast<std::uint16_t>(std::max(1.0, scaled));
  }
}

}  // namespace

model::ServiceRoutePtr route_service(const model::ServicePtr& service, const model::ServiceHealthPtr& health,
                                     const model::ServiceStandingPtr& standing, const model::Place& here,
                                     const model::ServiceRoute* previous) {
  auto route = std::make_shared<model::ServiceRoute>();
  route->service = service;
  route->health = health;
  route->standing = standing;
  std::vector<Candidate> candidates = candidates_of(*service, health.get(), standing.get());
  route->eligibility.reserve(candidates.size());
  for (const Candidate& candidate : candidates) route->eligibility.push_back(judge(*service, candidate));
  if (health || standing) route->panic = panic(*service, candidates, route->eligibility);
  if (previous != nullptr && service->slow_start > std::chrono::seconds(0)) begin_slowly(candidates, *previous, *route);
  route->routes.reserve(candidates.size());
  for (std::uint32_t i = 0; i < candidates.size(); ++i) {
    const Eligibility one = route->eligibility[i];
    if (one != Eligibility::kEligible && one != Eligibility::kPanic) continue;
    route->routes.push_back({i, candidates[i].endpoint.weight});
  }
  const std::uint32_t scale = scale_of(candidates, route->routes);
  for (model::Route& one : route->routes) {
    const std::uint32_t scaled = one.weight * scale * share_of(candidates[one.endpoint]) / kWholePercent;
    one.weight = static_cast<std::uint16_t>(std::max(1U, scaled));
  }
  if (!route->panic && has_tiers(*service)) prefer_first(*route, here);
  return route;
}

model::RoutingTablePtr Router::route(const model::SnapshotPtr& snapshot, const model::HealthView& health,
                                     const model::StandingView& standing) {
  auto next = std::make_shared<model::RoutingTable>();
  next->generation = last_->generation + 1;
  next->services.reserve(snapshot->services.size());
  static const model::ServiceHealthPtr kNotProbed;
  static const model::ServiceStandingPtr kNothingToSay;
  bool changed = snapshot->services.size() != last_->services.size();
  auto old = last_->services.begin();
  const auto old_end = last_->services.end();
  for (const model::ServicePtr& service : snapshot->services) {
    const model::ServiceHealthPtr* known = &kNotProbed;
    if (service->probe) {
      const auto found = health.find(service->frontend);
      if (found != health.end()) known = &found->second;
    }
    const model::ServiceStandingPtr* stands = &kNothingToSay;
    if (!standing.empty()) {
      const auto found = standing.find(service->frontend);
      if (found != standing.end()) stands = &found->second;
    }
    while (old != old_end && (*old)->service != service && (*old)->service->frontend < service->frontend) ++old;
    if (old != old_end && (*old)->service == service && (*old)->health == *known && (*old)->standing == *stands) {
      next->services.push_back(*old);
    } else {
      const bool is_old = old != old_end && (*old)->service->frontend == service->frontend;
      next->services.push_back(route_service(service, *known, *stands, here_, is_old ? old->get() : nullptr));
      changed = true;
    }
  }
  if (changed || next->generation == 1) last_ = std::move(next);
  return last_;
}

}  // namespace mesh::balance
