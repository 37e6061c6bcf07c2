// SPDX-License-Identifier: Apache-2.0
// Choice tables: what a connect() in the kernel draws an endpoint from. Pure functions of weights (and, for Maglev, of
// addresses): the same input gives the same table on every node and in every run.
//
// Sizes, in entries (a slot is 8 bytes; n is the number of routes):
//   weighted_random  n, of two slots each. Exact up to n / 2^32.
//   least_connections, latency  as weighted_random: what two draws are taken from (bpf/include/mesh_load.h).
//   round_robin      sum of the weights after division by their greatest common divisor, if that is at most
//                    round_robin_entries_max(n); else exactly that maximum, shares rounded by largest remainder.
//   source_hash      as round_robin.
//   maglev           the configured prime; the next larger of kMaglevSizes if there are more routes than that.
// Every route gets at least one entry (weighted_random: at least 2^16 / 2^32 of a column).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/routing.hpp"

namespace mesh::balance {

/// Entries hold indices into the list of routes. A buffer to be used again: building reuses its capacity.
struct Table {
  std::vector<std::uint32_t> picks;
  std::vector<std::uint32_t> aliases;     ///< Alias tables only: taken when the draw is not below the threshold.
  std::vector<std::uint32_t> thresholds;  ///< Alias tables only; 0xffffffff: always the pick.

  [[nodiscard]] std::uint32_t entries() const { return static_cast<std::uint32_t>(picks.size()); }
  bool operator==(const Table&) const = default;
};

/// Primes a Maglev table grows to when a service has more routes than its configured size.
inline constexpr std::array<std::uint32_t, 5> kMaglevSizes = {4093, 16381, 65521, 262139, 1048573};

/// Builds the table of a service from its routes; empty if it has none.
void build_table(const model::ServiceRoute& route, Table& table);

/// How many entries build_table() makes, without making them.
[[nodiscard]] std::uint32_t table_entries(const model::ServiceRoute& route);

/// Slots of the kernel's arena per entry: 2 for an alias table, else 1.
[[nodiscard]] constexpr std::uint32_t slots_per_entry(model::Algorithm algorithm) {
  using enum model::Algorithm;
  return algorithm == kWeightedRandom || algorithm == kLeastConnections || algorithm == kLatency ? 2 : 1;
}

/// The share of each route, in [0, 1], parallel to route.routes: of draws for weighted_random and round_robin, of
/// client keys for maglev and source_hash, of the draws that are compared for least_connections and latency. Taken from
/// the table as it is built, so quantisation shows.
[[nodiscard]] std::vector<double> distribution(const model::ServiceRoute& route);

/// Apportions `size` entries to weights by largest remainder; each gets at least one. `size` >= number of weights.
[[nodiscard]] std::vector<std::uint32_t> apportion(std::span<const std::uint16_t> weights, std::uint32_t size);

}  // namespace mesh::balance
