// SPDX-License-Identifier: Apache-2.0
#include "base/backoff.hpp"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace mesh::base {
namespace {

using namespace std::chrono_literals;

TEST(Backoff, each_wait_is_drawn_from_zero_to_a_ceiling_that_doubles_up_to_the_cap) {
  const std::chrono::milliseconds ceilings[] = {500ms, 1000ms, 2000ms, 4000ms, 4000ms, 4000ms};
  std::set<std::chrono::milliseconds> first_waits;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Backoff backoff({.base = 500ms, .cap = 4s, .floor = 10ms});
    Random random(seed);
    bool first = true;
    for (const auto ceiling : ceilings) {
      const auto wait = backoff.next({}, random);
      EXPECT_GE(wait, 10ms) << "seed " << seed;
      EXPECT_LE(wait, ceiling) << "seed " << seed;
      if (std::exchange(first, false)) first_waits.insert(wait);
    }
  }
  EXPECT_GT(first_waits.size(), 100u) << "agents with different seeds don't come together";
  EXPECT_LT(*first_waits.begin(), 100ms);
  EXPECT_GT(*first_waits.rbegin(), 400ms);
}

TEST(Backoff, begins_anew_only_after_what_held_for_a_while) {
  const auto longest_of = [](std::chrono::seconds healthy_for) {
    std::chrono::milliseconds longest{0};
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      Backoff backoff({.base = 100ms, .cap = 10s, .floor = 1ms, .healthy_after = 120s});
      Random random(seed);
      TimePoint now{};
      for (int i = 0; i < 8; ++i) (void)backoff.next(now, random);
      backoff.note_success(now);
      backoff.note_success(now + healthy_for / 2);  // the first success counts
      longest = std::max(longest, backoff.next(now + healthy_for, random));
    }
    return longest;
  };
  EXPECT_GT(longest_of(119s), 5s);
  EXPECT_LE(longest_of(120s), 100ms);
}

TEST(Backoff, the_same_seed_waits_the_same) {
  Backoff a;
  Backoff b;
  Random of_a(7);
  Random of_b(7);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(a.next({}, of_a), b.next({}, of_b));
}

}  // namespace
}  // namespace mesh::base
