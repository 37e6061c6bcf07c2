// SPDX-License-Identifier: Apache-2.0
// Nearness: endpoints on this node or in this zone first; and tiers: the next one for what those before can't carry.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/service.hpp"

namespace mesh::balance {

/// 0 is nearest. Without a preference, or where the agent doesn't know its own place, all are equally near.
[[nodiscard]] unsigned distance(const model::Service& service, const model::Endpoint& endpoint,
                                const model::Place& here);

inline constexpr unsigned kDistances = 3;

struct Tier {
  std::uint64_t usable = 0;       ///< Weight of the endpoints that get connections.
  std::uint64_t could_serve = 0;  ///< And of those that would, were they up.
};

/// The share of connections of each tier, nearest first; they add up to 1 unless nothing is usable. While at least
/// `threshold_percent` of a tier is usable it takes all that is left for it; with less it takes in proportion, and the
/// rest spills over to the next. What is left after the last one is taken by all in proportion to what they have.
[[nodiscard]] std::vector<double> spill_over(std::span<const Tier> tiers, unsigned threshold_percent);

}  // namespace mesh::balance
