// SPDX-License-Identifier: Apache-2.0
#include "relay/target.hpp"

#include <algorithm>
#include <utility>

#include "balance/weighted.hpp"

namespace mesh::relay {

Target::Target(model::ServiceRoutePtr route, EndpointLoads& loads, const Target* previous) : route_(std::move(route)) {
  balance::build_table(*route_, table_);
  if (previous != nullptr) turn_ = previous->turn_.load(std::memory_order_relaxed);
  const model::Service& service = *route_->service;
  for (const model::Route& one : route_->routes) {
    loads_.push_back(loads.at({service.frontend.address, service.endpoints[one.endpoint].address}));
    loads_.back()->max_age = static_cast<std::uint32_t>(service.drain.max_age.count());
  }
}

/// One entry of an alias table, as mesh_choose() in the kernel draws it.
std::uint32_t Target::pick(base::Random& random) const {
  const std::uint64_t drawn = random.next();
  const auto column = static_cast<std::uint32_t>((drawn >> 32) * table_.entries() >> 32);
  const auto threshold = table_.thresholds[column];
  const bool own = threshold == balance::kAlwaysPick || static_cast<std::uint32_t>(drawn) < threshold;
  return own ? table_.picks[column] : table_.aliases[column];
}

std::uint32_t Target::draw(base::Random& random, std::uint64_t client_key) const {
  switch (route_->service->algorithm) {
    case model::Algorithm::kWeightedRandom:
      return pick(random);
    case model::Algorithm::kRoundRobin:
      return table_.picks[turn_.fetch_add(1, std::memory_order_relaxed) % table_.entries()];
    case model::Algorithm::kMaglev:
    case model::Algorithm::kSourceHash:
      return table_.picks[base::mix64(client_key) % table_.entries()];
    case model::Algorithm::kLeastConnections:
    case model::Algorithm::kLatency: {
      const std::uint32_t first = pick(random);
      const std::uint32_t second = pick(random);
      const auto active = [&](std::uint32_t i) { return loads_[i]->active.load(std::memory_order_relaxed); };
      return active(second) < active(first) ? second : first;
    }
  }
  return 0;
}

std::optional<Target::Choice> Target::choose(base::Random& random, std::uint64_t client_key,
                                             std::span<const std::uint32_t> tried) const {
  const auto count = static_cast<std::uint32_t>(loads_.size());
  if (count == 0 || tried.size() >= count) return std::nullopt;
  std::uint32_t chosen = draw(random, client_key);
  while (std::ranges::find(tried, chosen) != tried.end()) chosen = (chosen + 1) % count;
  return Choice{chosen, route_->service->endpoints[route_->routes[chosen].endpoint].address, loads_[chosen]};
}

}  // namespace mesh::relay
