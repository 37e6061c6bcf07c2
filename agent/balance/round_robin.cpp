// SPDX-License-Identifier: Apache-2.0
#include "balance/round_robin.hpp"

#include <numeric>
#include <unordered_map>

namespace mesh::balance {
namespace {

struct Ratio {
  std::uint64_t divisor = 0;  ///< Greatest common divisor of the weights.
  std::uint64_t sum = 0;      ///< Of the weights divided by it.
};

Ratio reduce(std::span<const std::uint16_t> weights) {
  Ratio ratio;
  for (const std::uint16_t weight : weights) {
    ratio.divisor = std::gcd(ratio.divisor, std::uint64_t{weight});
    ratio.sum += weight;
  }
  if (ratio.divisor > 0) ratio.sum /= ratio.divisor;
  return ratio;
}

}  // namespace

std::uint32_t round_robin_entries(std::span<const std::uint16_t> weights) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(reduce(weights).sum, round_robin_entries_max(weights.size())));
}

void build_round_robin(std::span<const std::uint16_t> weights, Table& table) {
  const Ratio ratio = reduce(weights);
  const std::uint32_t size = round_robin_entries(weights);
  table.picks.resize(size);
  if (size == weights.size()) {  // equal weights: one turn each
    std::iota(table.picks.begin(), table.picks.end(), 0u);
    return;
  }
  std::vector<std::uint32_t> turns;
  if (ratio.sum == size) {
    for (const std::uint16_t weight : weights) turns.push_back(static_cast<std::uint32_t>(weight / ratio.divisor));
  } else {
    turns = apportion(weights, size);
  }

  struct Group {
    std::uint64_t members = 0;
    std::uint64_t seen = 0;
  };
  std::unordered_map<std::uint32_t, Group> groups;  // routes with equally many turns
  for (const std::uint32_t count : turns) ++groups[count].members;

  struct Turn {
    std::uint64_t position;  ///< In units of 2^-40 of the table.
    std::uint32_t route;
  };
  std::vector<Turn> order;
  order.reserve(size);
  for (std::uint32_t route = 0; route < turns.size(); ++route) {
    Group& group = groups[turns[route]];
    // (k + (2 seen + 1) / (2 members)) / turns; members * turns <= size, so the products fit easily.
    const std::uint64_t denominator = 2 * group.members * turns[route];
    for (std::uint64_t k = 0; k < turns[route]; ++k) {
      const std::uint64_t numerator = 2 * group.members * k + 2 * group.seen + 1;
      order.push_back({(numerator << 40) / denominator, route});
    }
    ++group.seen;
  }
  std::sort(order.begin(), order.end(), [](const Turn& a, const Turn& b) {
    return a.position != b.position ? a.position < b.position : a.route < b.route;
  });
  for (std::uint32_t i = 0; i < size; ++i) table.picks[i] = order[i].route;
}

}  // namespace mesh::balance
