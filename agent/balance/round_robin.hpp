// SPDX-License-Identifier: Apache-2.0
// Round robin as slots in a smooth order: the turns of one route are spread evenly over the table, also across its
// end, so a shared cursor that walks the table never sends a burst to one endpoint. Source hash uses the same slots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "balance/table.hpp"

namespace mesh::balance {

/// The size cap: 16 entries per route on average, 256 to 65536, and never fewer than routes. A share is then rounded
/// by at most one entry: 1/256 of the traffic for few routes, 1/16 of its own share for a route of average weight.
[[nodiscard]] constexpr std::uint32_t round_robin_entries_max(std::size_t routes) {
  const std::size_t wanted = std::clamp<std::size_t>(routes * 16, 256, 65536);
  return static_cast<std::uint32_t>(std::max(wanted, routes));
}

[[nodiscard]] std::uint32_t round_robin_entries(std::span<const std::uint16_t> weights);

/// Turn k of c of a route stands at (k + phase) / c of the table, where routes with equal c share the phases between 0
/// and 1 evenly; ties go to the lower index.
void build_round_robin(std::span<const std::uint16_t> weights, Table& table);

}  // namespace mesh::balance
