// SPDX-License-Identifier: Apache-2.0
// Maglev hashing (D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4), with weights. A route's permutation comes from its endpoint's address alone and routes stand in the
// order of addresses, so nodes that see the same usable endpoints have the same table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "balance/table.hpp"

namespace mesh::balance {

/// The configured prime, or the smallest of kMaglevSizes that has room for all routes.
[[nodiscard]] std::uint32_t maglev_entries(std::size_t routes, std::uint32_t configured);

/// Fills `entries` (a prime >= number of weights) so that each route gets exactly its apportion()ed number. In turn
/// each takes the next free entry of its permutation; a route with w of the heaviest one's W entries takes w of W
/// turns, evenly spread.
void build_maglev(std::span<const base::SocketAddress> addresses, std::span<const std::uint16_t> weights,
                  std::uint32_t entries, Table& table);

}  // namespace mesh::balance
