// SPDX-License-Identifier: Apache-2.0
#include "balance/table.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <random>

#include "balance/maglev.hpp"
#include "balance/round_robin.hpp"
#include "balance/weighted.hpp"
#include "base/random.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::balance {
namespace {

using Weights = std::vector<std::uint16_t>;

Weights some_weights(std::size_t most) {
  const auto count = *rc::gen::inRange<std::size_t>(1, most + 1);
  const auto largest = *rc::gen::element<int>(1, 5, 100, 65535);
  return *rc::gen::container<Weights>(
      count, rc::gen::map(rc::gen::inRange(1, largest + 1), [](int w) { return static_cast<std::uint16_t>(w); }));
}

std::vector<std::uint32_t> counts(const Table& table, std::size_t routes) {
  std::vector<std::uint32_t> found(routes, 0);
  for (const std::uint32_t pick : table.picks) ++found.at(pick);
  return found;
}

std::vector<base::SocketAddress> addresses(std::uint32_t count) {
  std::vector<base::SocketAddress> list;
  for (std::uint32_t i = 0; i < count; ++i) {
    list.push_back(support::address("10.0." + std::to_string(i >> 8) + "." + std::to_string(i & 255) + ":8080"));
  }
  return list;
}

// ---- weighted random

TEST(WeightedRandom, shares_are_exact_to_one_part_in_two_to_the_32_per_column) {
  EXPECT_TRUE(rc::check([] {
    const Weights weights = some_weights(40);
    Table table;
    build_weighted(weights, table);
    RC_ASSERT(table.entries() == weights.size());
    const std::uint64_t sum = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
    // In units of 2^-32 of a column.
    std::vector<std::uint64_t> units(weights.size(), 0);
    for (std::uint32_t i = 0; i < table.entries(); ++i) {
      RC_ASSERT(table.picks[i] == i);
      const std::uint64_t own = table.thresholds[i] == kAlwaysPick ? 1ULL << 32 : table.thresholds[i];
      units[i] += own;
      units.at(table.aliases[i]) += (1ULL << 32) - own;
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double want =
          static_cast<double>(weights[i]) * static_cast<double>(weights.size()) * 0x1p32 / static_cast<double>(sum);
      RC_ASSERT(std::abs(static_cast<double>(units[i]) - want) <= static_cast<double>(weights.size()) + want * 1e-12);
      RC_ASSERT(units[i] > 0u);
    }
  }));
}

TEST(WeightedRandom, equal_weights_never_use_the_alias) {
  Table table;
  build_weighted(Weights{7, 7, 7}, table);
  EXPECT_EQ(table.picks, (std::vector<std::uint32_t>{0, 1, 2}));
  EXPECT_EQ(table.thresholds, std::vector<std::uint32_t>(3, kAlwaysPick));
}

TEST(WeightedRandom, the_lightest_of_two_has_its_share) {
  Table table;
  build_weighted(Weights{1, 3}, table);  // 1/4 and 3/4: column 0 is half its own, half the other's
  EXPECT_EQ(table.thresholds, (std::vector<std::uint32_t>{0x80000000u, kAlwaysPick}));
  EXPECT_EQ(table.aliases[0], 1u);
}

/// The pick of mesh_balance.h, on the userspace side of the table.
std::uint32_t pick(const Table& table, base::Random& random) {
  const auto column = static_cast<std::uint32_t>(random.below(table.entries()));
  const auto draw = static_cast<std::uint32_t>(random.next());
  if (table.thresholds.empty() || table.thresholds[column] == kAlwaysPick) return table.picks[column];
  return draw < table.thresholds[column] ? table.picks[column] : table.aliases[column];
}

TEST(WeightedRandom, picks_follow_the_weights_by_chi_square) {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  base::Random random(seed);
  const Weights weights = {1, 2, 3, 10, 100, 7, 7};
  Table table;
  build_weighted(weights, table);
  constexpr int kPicks = 200000;
  std::vector<int> found(weights.size(), 0);
  for (int i = 0; i < kPicks; ++i) ++found[pick(table, random)];
  double chi_square = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double want = kPicks * weights[i] / 130.0;
    chi_square += (found[i] - want) * (found[i] - want) / want;
  }
  EXPECT_LT(chi_square, 35.9) << "6 degrees of freedom: chance of a false alarm 3 in a million";
}

// ---- apportioning

TEST(Apportion, everyone_gets_an_entry_and_nobody_is_off_by_more_than_one_of_its_share) {
  EXPECT_TRUE(rc::check([] {
    const Weights weights = some_weights(60);
    const auto size = static_cast<std::uint32_t>(weights.size()) + *rc::gen::inRange(0u, 5000u);
    const std::vector<std::uint32_t> shares = apportion(weights, size);
    RC_ASSERT(std::accumulate(shares.begin(), shares.end(), 0u) == size);
    RC_ASSERT(*std::min_element(shares.begin(), shares.end()) >= 1u);
    std::uint64_t left = size;
    std::uint64_t sum = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
    Weights sorted = weights;
    std::sort(sorted.begin(), sorted.end());
    for (const std::uint16_t weight : sorted) {  // what is left for those due more than one entry
      if (weight * left >= sum) break;
      sum -= weight;
      --left;
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double due = static_cast<double>(weights[i]) * static_cast<double>(left) / static_cast<double>(sum);
      RC_ASSERT(shares[i] == 1u || std::abs(shares[i] - due) < 1.0);
      for (std::size_t k = 0; k < weights.size(); ++k) RC_ASSERT(weights[i] < weights[k] || shares[i] + 1 >= shares[k]);
    }
  }));
}

TEST(Apportion, the_largest_remainders_get_the_rest) {
  EXPECT_EQ(apportion(Weights{3, 3, 1}, 10), (std::vector<std::uint32_t>{4, 4, 2}));  // due 4.29, 4.29, 1.43
  EXPECT_EQ(apportion(Weights{65535, 1, 1}, 10), (std::vector<std::uint32_t>{8, 1, 1}));
}

// ---- round robin

TEST(RoundRobin, weights_with_a_small_sum_are_exact) {
  Table table;
  build_round_robin(Weights{200, 100, 100}, table);
  EXPECT_EQ(counts(table, 3), (std::vector<std::uint32_t>{2, 1, 1}));
  build_round_robin(Weights{9, 9, 9, 9}, table);
  EXPECT_EQ(table.picks, (std::vector<std::uint32_t>{0, 1, 2, 3}));
  build_round_robin(Weights{5, 1, 1}, table);
  EXPECT_EQ(table.picks, (std::vector<std::uint32_t>{0, 1, 0, 0, 0, 2, 0}));
}

TEST(RoundRobin, the_size_is_capped_and_nobody_starves) {
  Table table;
  build_round_robin(Weights{65535, 1}, table);
  EXPECT_EQ(table.entries(), 256u);
  EXPECT_EQ(counts(table, 2), (std::vector<std::uint32_t>{255, 1}));
  EXPECT_EQ(round_robin_entries_max(1), 256u);
  EXPECT_EQ(round_robin_entries_max(100), 1600u);
  EXPECT_EQ(round_robin_entries_max(5000), 65536u);
  EXPECT_EQ(round_robin_entries_max(70000), 70000u);
}

TEST(RoundRobin, turns_are_spread_evenly_also_across_the_end) {
  EXPECT_TRUE(rc::check([] {
    const Weights weights = some_weights(20);
    Table table;
    build_round_robin(weights, table);
    const std::uint32_t size = table.entries();
    RC_ASSERT(size == round_robin_entries(weights));
    RC_ASSERT(size <= round_robin_entries_max(weights.size()));
    const std::vector<std::uint32_t> found = counts(table, weights.size());
    for (std::uint32_t route = 0; route < weights.size(); ++route) {
      RC_ASSERT(found[route] >= 1u);
      std::vector<std::uint32_t> places;
      for (std::uint32_t i = 0; i < size; ++i) {
        if (table.picks[i] == route) places.push_back(i);
      }
      // The longest wait for a turn is the ideal one plus at most one turn of every other route, each way.
      places.push_back(places.front() + size);
      for (std::size_t i = 1; i < places.size(); ++i) {
        const double ideal = static_cast<double>(size) / found[route];
        RC_ASSERT(places[i] - places[i - 1] <= std::ceil(ideal) + static_cast<double>(weights.size()));
      }
    }
  }));
}

// ---- Maglev

TEST(Maglev, every_entry_is_filled_and_shares_are_exactly_apportioned) {
  EXPECT_TRUE(rc::check([] {
    const Weights weights = some_weights(50);
    Table table;
    build_maglev(addresses(static_cast<std::uint32_t>(weights.size())), weights, 251, table);
    RC_ASSERT(counts(table, weights.size()) == apportion(weights, 251));
  }));
}

TEST(Maglev, the_table_is_the_same_on_every_node_and_in_every_version) {
  Table table;
  build_maglev(addresses(5), Weights{1, 1, 1, 1, 1}, 13, table);
  // Fixed on purpose: if this changes, nodes of two versions disagree while a cluster is upgraded.
  EXPECT_EQ(table.picks, (std::vector<std::uint32_t>{4, 1, 1, 2, 1, 3, 0, 0, 2, 2, 3, 4, 0}));
}

TEST(Maglev, removing_one_of_a_hundred_moves_at_most_three_percent_of_the_others_keys) {
  constexpr std::uint32_t kEntries = 16381;
  const std::vector<base::SocketAddress> all = addresses(100);
  const Weights weights(100, 1);
  Table before;
  build_maglev(all, weights, kEntries, before);
  double worst = 0;
  for (std::uint32_t removed = 0; removed < 100; ++removed) {
    std::vector<base::SocketAddress> rest = all;
    rest.erase(rest.begin() + removed);
    Table after;
    build_maglev(rest, std::span(weights).first(99), kEntries, after);
    std::uint32_t others = 0;
    std::uint32_t moved = 0;
    for (std::uint32_t i = 0; i < kEntries; ++i) {
      if (before.picks[i] == removed) continue;
      ++others;
      moved += all[before.picks[i]] != rest[after.picks[i]];
    }
    worst = std::max(worst, static_cast<double>(moved) / others);
  }
  std::cout << "worst of 100 removals: " << worst * 100 << " % of the others' keys moved\n";
  EXPECT_LE(worst, 0.03);
}

TEST(Maglev, grows_to_a_larger_prime_rather_than_leave_an_endpoint_out) {
  EXPECT_EQ(maglev_entries(10, 4093), 4093u);
  EXPECT_EQ(maglev_entries(251, 251), 251u);
  EXPECT_EQ(maglev_entries(252, 251), 4093u);
  EXPECT_EQ(maglev_entries(4094, 251), 16381u);
}

// ---- whole services

TEST(Table, its_size_is_known_without_building_it) {
  EXPECT_TRUE(rc::check([](std::uint64_t seed) {
    support::RandomChanges changes(seed);
    model::RoutingTablePtr table = support::table({}, 0);
    for (int i = 0; i < 20; ++i) table = changes.next(table);
    for (const model::ServiceRoutePtr& route : table->services) {
      Table choice;
      build_table(*route, choice);
      RC_ASSERT(choice.entries() == table_entries(*route));
      const std::vector<double> shares = distribution(*route);
      RC_ASSERT(route->routes.empty() || std::abs(std::accumulate(shares.begin(), shares.end(), 0.0) - 1.0) < 1e-6);
    }
  }));
}

TEST(Table, explains_the_share_of_each_route) {
  const auto route =
      support::route({.frontend = "240.0.0.1:80", .endpoints = {{"10.0.0.1:80", 3}, {"10.0.0.2:80", 1}}});
  EXPECT_EQ(distribution(*route), (std::vector<double>{0.75, 0.25}));
}

}  // namespace
}  // namespace mesh::balance
