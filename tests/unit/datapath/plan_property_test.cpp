// SPDX-License-Identifier: Apache-2.0
// The proof in plan.hpp, tried: random histories of updates, faults, restarts and grace periods, with readers that are
// stopped and go on at random points. rapidcheck prints the seed of a failing history; RC_PARAMS="seed=N" repeats it.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "tests/support/plan_world.hpp"

namespace mesh::datapath {
namespace {

constexpr TableSizes kSizes{.services = 64, .ranges = 128, .slots = 4096, .backends = 256};

void expect_fine(const std::string& complaint) {
  if (!complaint.empty()) RC_FAIL(complaint);
}

TEST(Plan, no_reader_ever_sees_anything_but_a_whole_table_of_its_service) {
  EXPECT_TRUE(rc::check("I2 I3 I4 over random histories", [](std::uint64_t seed) {
    support::PlanWorld world(seed, kSizes);
    base::Random random(seed + 2);
    for (int i = 0; i < 60; ++i) {
      expect_fine(world.change(/*fault=*/random.below(6) == 0));
      expect_fine(world.check());
      world.turn_over_sockets();
      if (random.below(3) == 0) expect_fine(world.pass_grace());
      if (random.below(12) == 0) expect_fine(world.restart());
      expect_fine(world.check());
    }
    RC_ASSERT(world.reads() > 0u);
  }));
}

TEST(Plan, nothing_leaks_over_a_long_history) {
  EXPECT_TRUE(rc::check("quarantine drains", [](std::uint64_t seed) {
    support::PlanWorld world(seed, kSizes);
    base::Random random(seed + 2);
    for (int i = 0; i < 40; ++i) {
      expect_fine(world.change(random.below(6) == 0));
      if (random.below(12) == 0) expect_fine(world.restart());
    }
    expect_fine(world.pass_grace());
    const Usage usage = world.compiler().usage();
    RC_ASSERT(usage.services.quarantined == 0u);
    RC_ASSERT(usage.ranges.quarantined == 0u);
    RC_ASSERT(usage.backends.quarantined == 0u);
    RC_ASSERT(usage.slots.quarantined == 0u);
  }));
}

}  // namespace
}  // namespace mesh::datapath
