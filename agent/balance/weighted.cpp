// SPDX-License-Identifier: Apache-2.0
#include "balance/weighted.hpp"

#include <algorithm>
#include <numeric>

namespace mesh::balance {

void build_weighted(std::span<const std::uint16_t> weights, Table& table) {
  const std::size_t count = weights.size();
  table.picks.resize(count);
  std::iota(table.picks.begin(), table.picks.end(), 0u);
  table.aliases = table.picks;
  table.thresholds.assign(count, kAlwaysPick);
  if (std::all_of(weights.begin(), weights.end(), [&](std::uint16_t weight) { return weight == weights[0]; })) return;

  // Every column holds `total` units; route i has weight * count of them to place.
  const std::uint64_t total = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  std::vector<std::uint64_t> units(count);
  std::vector<std::uint32_t> small;
  std::vector<std::uint32_t> large;
  for (std::uint32_t i = 0; i < count; ++i) {
    units[i] = std::uint64_t{weights[i]} * count;
    if (units[i] < total) small.push_back(i);
    if (units[i] > total) large.push_back(i);
  }
  while (!small.empty()) {
    const std::uint32_t needy = small.back();
    const std::uint32_t donor = large.back();  // units sum to count * total: where one is short, another is over
    small.pop_back();
    table.thresholds[needy] = static_cast<std::uint32_t>((static_cast<unsigned __int128>(units[needy]) << 32) / total);
    table.aliases[needy] = donor;
    units[donor] -= total - units[needy];
    if (units[donor] > total) continue;
    large.pop_back();
    if (units[donor] < total) small.push_back(donor);
  }
}

}  // namespace mesh::balance
