// SPDX-License-Identifier: Apache-2.0
// bpf/include/mesh_load.h and mesh_latency.h: what the kernel programs compare, compiled for here.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <limits>

#include "balance/table.hpp"
#include "mesh_load.h"
#include "model/service.hpp"

namespace mesh::balance {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kNow = 3'600'000 * kMs;
constexpr std::uint64_t kHalfLife = MESH_LATENCY_HALF_LIFE_MS * kMs;

std::uint64_t us(std::uint64_t units) { return units * MESH_LATENCY_UNIT_NS / 1000; }
std::uint64_t units(std::uint64_t us) { return us * 1000 / MESH_LATENCY_UNIT_NS; }

bool second_by_connections(mesh_load first, mesh_load second) {
  return mesh_second_is_better(MESH_LEAST_CONNECTIONS, &first, &second) != 0;
}
bool second_by_latency(mesh_load first, mesh_load second) {
  return mesh_second_is_better(MESH_LATENCY, &first, &second) != 0;
}

TEST(Latency, rises_at_once_and_falls_slowly) {
  std::uint64_t state = mesh_latency_sample(0, 1000, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow)), 1000U);
  state = mesh_latency_sample(state, 8000, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow)), 8000U);
  state = mesh_latency_sample(state, 0, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow)), 7000U);
}

TEST(Latency, halves_in_a_half_life_until_it_is_unknown) {
  const std::uint64_t state = mesh_latency_sample(0, 8000, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow + kHalfLife)), 4000U);
  EXPECT_EQ(us(mesh_latency_value(state, kNow + kHalfLife * 3)), 1000U);
  EXPECT_EQ(mesh_latency_value(state, kNow + kHalfLife * 32), 0U);
  std::uint64_t before = mesh_latency_value(state, kNow);
  for (std::uint64_t later = 0; later < 4 * kHalfLife; later += kHalfLife / 64) {
    const std::uint64_t value = mesh_latency_value(state, kNow + later);
    EXPECT_LE(value, before);
    before = value;
  }
}

TEST(Latency, a_clock_that_lags_behind_the_stamp_changes_nothing) {
  const std::uint64_t state = mesh_latency_sample(0, 8000, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow - 10 * kMs)), 8000U);
}

TEST(Latency, a_failure_counts_as_slow_and_a_slow_one_that_fails_as_slower) {
  std::uint64_t state = mesh_latency_failure(mesh_latency_sample(0, 100, kNow), kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow)), MESH_LATENCY_FAILURE_US);
  state = mesh_latency_failure(state, kNow);
  EXPECT_EQ(us(mesh_latency_value(state, kNow)), 2 * MESH_LATENCY_FAILURE_US);
  for (int i = 0; i < 100; ++i) state = mesh_latency_failure(state, kNow);
  EXPECT_EQ(mesh_latency_value(state, kNow), std::numeric_limits<std::uint32_t>::max());
}

TEST(Latency, connections_that_live_long_say_nothing) {
  EXPECT_TRUE(mesh_latency_counts(MESH_LATENCY_SAMPLE_MAX_US));
  EXPECT_FALSE(mesh_latency_counts(MESH_LATENCY_SAMPLE_MAX_US + 1));
}

TEST(Load, open_connections_are_never_less_than_none) {
  const mesh_backend_live live{.opened = 3, .closed = 5};
  mesh_load load{};
  mesh_load_of(&live, 0, kNow, &load);
  EXPECT_EQ(load.open, 0U);
  EXPECT_EQ(load.weight, 1U) << "a record that is being written must not divide by nothing";
}

TEST(Load, fewer_open_connections_for_its_weight_win_and_the_first_wins_a_tie) {
  EXPECT_TRUE(second_by_connections({.open = 3, .weight = 1}, {.open = 2, .weight = 1}));
  EXPECT_FALSE(second_by_connections({.open = 2, .weight = 1}, {.open = 2, .weight = 1}));
  EXPECT_TRUE(second_by_connections({.open = 3, .weight = 1}, {.open = 10, .weight = 3}));
  EXPECT_FALSE(second_by_connections({.open = 3, .weight = 1}, {.open = 11, .weight = 3}));
}

TEST(Load, failures_count_as_open_connections_for_a_while) {
  mesh_backend_live live{};
  live.failures_in_row = 2;
  live.last_failure_ns = kNow;
  mesh_load refusing{};
  mesh_load_of(&live, 1, kNow - 10 * kMs, &refusing);
  EXPECT_EQ(refusing.open, 0U);
  EXPECT_EQ(refusing.failing, 2 * MESH_LOAD_FAILURE);
  EXPECT_TRUE(second_by_connections(refusing, {.open = 31, .weight = 1}));
  EXPECT_FALSE(second_by_connections(refusing, {.open = 32, .weight = 1}));
  mesh_load_of(&live, 1, kNow + 5000 * kMs, &refusing);
  EXPECT_EQ(refusing.failing, MESH_LOAD_FAILURE);
  mesh_load_of(&live, 1, kNow + 60'000 * kMs, &refusing);
  EXPECT_EQ(refusing.failing, 0U);
  live.failures_in_row = 0xffffffff;
  mesh_load_of(&live, 1, kNow, &refusing);
  EXPECT_EQ(refusing.failing, MESH_LOAD_FAILURES_MAX * MESH_LOAD_FAILURE);
}

TEST(Load, latency_weighs_time_against_open_connections) {
  const mesh_load fast{.open = 9, .latency = units(1000), .weight = 1};
  EXPECT_FALSE(second_by_latency(fast, {.open = 0, .latency = units(11'000), .weight = 1}));
  EXPECT_TRUE(second_by_latency(fast, {.open = 0, .latency = units(9'000), .weight = 1}));
}

TEST(Load, of_an_unknown_backend_one_connection_is_tried) {
  const mesh_load known{.open = 4, .latency = units(10), .weight = 1};
  EXPECT_TRUE(second_by_latency(known, {.open = 0, .weight = 1}));
  EXPECT_FALSE(second_by_latency({.open = 0, .weight = 1}, known));
  EXPECT_TRUE(second_by_latency(known, {.open = 1, .weight = 1})) << "as fast as the other, and less open";
  EXPECT_FALSE(second_by_latency(known, {.open = 5, .weight = 1}));
  EXPECT_TRUE(second_by_latency({.open = 1, .weight = 1}, {.open = 0, .weight = 1})) << "nothing is known of either";
}

TEST(Load, one_of_two_is_better_or_they_are_alike) {
  EXPECT_TRUE(rc::check([] {
    const auto some = [] {
      const auto size = [] { return *rc::gen::element<std::uint64_t>(0, 1, 7, 0xfffff, 0xffffffff); };
      const auto weight = *rc::gen::element<std::uint32_t>(1, 2, 100, 65535);
      return mesh_load{.open = size(), .latency = size(), .weight = weight, .backend_id = 0};
    };
    const mesh_load a = some();
    const mesh_load b = some();
    RC_ASSERT(!(second_by_latency(a, b) && second_by_latency(b, a)));
    RC_ASSERT(!(second_by_connections(a, b) && second_by_connections(b, a)));
    mesh_load busier = a;
    if (a.open < MESH_LOAD_OPEN_MAX - 1) {
      ++busier.open;
      RC_ASSERT(second_by_connections(busier, a));
      RC_ASSERT(!second_by_latency(a, busier));
    }
  }));
}

TEST(Load, the_second_draw_is_from_any_other_column) {
  for (const std::uint32_t count : {2U, 3U, 10U}) {
    for (std::uint32_t column = 0; column < count; ++column) {
      std::vector<unsigned> seen(count, 0);
      for (std::uint64_t random = 0; random < 1ULL << 32; random += 1ULL << 20) {
        ++seen.at(mesh_other_column(column, static_cast<std::uint32_t>(random), count));
      }
      EXPECT_EQ(seen[column], 0U);
      for (std::uint32_t other = 0; other < count; ++other) {
        if (other != column) EXPECT_NEAR(seen[other], 4096.0 / (count - 1), 1);
      }
    }
  }
}

TEST(Load, agent_and_kernel_agree_on_what_an_entry_is) {
  for (int algorithm = MESH_WEIGHTED_RANDOM; algorithm <= MESH_LATENCY; ++algorithm) {
    EXPECT_EQ(slots_per_entry(static_cast<model::Algorithm>(algorithm)),
              mesh_slots_per_entry(static_cast<std::uint8_t>(algorithm)));
  }
}

}  // namespace
}  // namespace mesh::balance
