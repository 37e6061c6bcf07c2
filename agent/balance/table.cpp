// SPDX-License-Identifier: Apache-2.0
#include "balance/table.hpp"

#include <algorithm>
#include <numeric>

#include "balance/maglev.hpp"
#include "balance/round_robin.hpp"
#include "balance/weighted.hpp"

namespace mesh::balance {
namespace {

std::vector<std::uint16_t> weights_of(const model::ServiceRoute& route) {
  std::vector<std::uint16_t> weights;
  weights.reserve(route.routes.size());
  for (const model::Route& one : route.routes) weights.push_back(one.weight);
  return weights;
}

}  // namespace

void build_table(const model::ServiceRoute& route, Table& table) {
  table.picks.clear();
  table.aliases.clear();
  table.thresholds.clear();
  if (route.routes.empty()) return;
  const std::vector<std::uint16_t> weights = weights_of(route);
  switch (route.service->algorithm) {
    case model::Algorithm::kWeightedRandom:
    case model::Algorithm::kLeastConnections:
    case model::Algorithm::kLatency:
      build_weighted(weights, table);
      return;
    case model::Algorithm::kRoundRobin:
    case model::Algorithm::kSourceHash:
      build_round_robin(weights, table);
      return;
    case model::Algorithm::kMaglev: {
      std::vector<base::SocketAddress> addresses;
      addresses.reserve(weights.size());
      for (const model::Route& one : route.routes) addresses.push_back(route.service->endpoints[one.endpoint].address);
      build_maglev(addresses, weights, maglev_entries(weights.size(), route.service->maglev_size), table);
      return;
    }
  }
}

std::uint32_t table_entries(const model::ServiceRoute& route) {
  if (route.routes.empty()) return 0;
  switch (route.service->algorithm) {
    case model::Algorithm::kWeightedRandom:
    case model::Algorithm::kLeastConnections:
    case model::Algorithm::kLatency:
      return static_cast<std::uint32_t>(route.routes.size());
    case model::Algorithm::kRoundRobin:
    case model::Algorithm::kSourceHash:
      return round_robin_entries(weights_of(route));
    case model::Algorithm::kMaglev:
      return maglev_entries(route.routes.size(), route.service->maglev_size);
  }
  return 0;
}

std::vector<double> distribution(const model::ServiceRoute& route) {
  Table table;
  build_table(route, table);
  std::vector<double> shares(route.routes.size(), 0.0);
  const double column = 1.0 / std::max<std::uint32_t>(table.entries(), 1);
  for (std::uint32_t i = 0; i < table.entries(); ++i) {
    double own = 1.0;
    if (!table.thresholds.empty() && table.thresholds[i] != kAlwaysPick) own = table.thresholds[i] * 0x1.0p-32;
    shares[table.picks[i]] += column * own;
    if (own < 1.0) shares[table.aliases[i]] += column * (1.0 - own);
  }
  return shares;
}

std::vector<std::uint32_t> apportion(std::span<const std::uint16_t> weights, std::uint32_t size) {
  const std::size_t count = weights.size();
  MESH_ASSERT(size >= count);
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return weights[a] != weights[b] ? weights[a] < weights[b] : a < b;
  });

  std::uint64_t total = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  std::uint64_t left = size;
  std::vector<std::uint32_t> shares(count, 0);
  // Who is due less than one entry gets one, lightest first; the heavier ones share what is left.
  std::size_t first = 0;
  while (first < count && weights[order[first]] * left < total) {
    shares[order[first]] = 1;
    total -= weights[order[first]];
    --left;
    ++first;
  }
  std::uint64_t given = 0;
  for (std::size_t i = first; i < count; ++i) {
    shares[order[i]] = static_cast<std::uint32_t>(weights[order[i]] * left / total);
    given += shares[order[i]];
  }
  std::sort(order.begin() + static_cast<std::ptrdiff_t>(first), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const std::uint64_t remainder_a = weights[a] * left % total;
    const std::uint64_t remainder_b = weights[b] * left % total;
    return remainder_a != remainder_b ? remainder_a > remainder_b : a < b;
  });
  for (std::size_t i = first; given < left; ++i, ++given) ++shares[order[i]];
  return shares;
}

}  // namespace mesh::balance
