// SPDX-License-Identifier: Apache-2.0
#include "datapath/arena.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <vector>

#include "base/random.hpp"

namespace mesh::datapath {
namespace {

TEST(IdPool, gives_never_used_ids_first_and_then_the_longest_unused) {
  IdPool pool(1, 4);
  EXPECT_EQ(pool.capacity(), 3u);
  EXPECT_EQ(pool.take(), 1u);
  EXPECT_EQ(pool.take(), 2u);
  pool.give_back(2);
  pool.give_back(1);
  EXPECT_EQ(pool.take(), 3u);
  EXPECT_EQ(pool.take(), 2u);
  EXPECT_EQ(pool.take(), 1u);
  EXPECT_EQ(pool.take(), std::nullopt);
}

TEST(IdPool, undone_takes_leave_no_trace) {
  IdPool pool(1, 5);
  for (int i = 0; i < 3; ++i) pool.take();
  pool.give_back(3);
  pool.give_back(1);
  const std::uint32_t fresh = pool.fresh();
  const std::vector<std::uint32_t> taken = {*pool.take(), *pool.take(), *pool.take()};
  EXPECT_EQ(taken, (std::vector<std::uint32_t>{4, 3, 1}));
  pool.undo(taken, fresh);
  EXPECT_EQ(pool.available(), 3u);
  EXPECT_EQ(pool.take(), 4u);
  EXPECT_EQ(pool.take(), 3u);
  EXPECT_EQ(pool.take(), 1u);
}

TEST(SlotArena, runs_never_overlap_and_neighbours_become_one) {
  EXPECT_TRUE(rc::check([](std::uint64_t seed) {
    constexpr std::uint32_t kSize = 500;
    base::Random random(seed);
    SlotArena arena(kSize);
    std::vector<bool> used(kSize, false);
    std::vector<datapath::Run> runs;
    const auto longest_free = [&] {
      std::uint32_t longest = 0;
      std::uint32_t current = 0;
      for (const bool one : used) longest = std::max(longest, current = one ? 0 : current + 1);
      return longest;
    };
    for (int i = 0; i < 200; ++i) {
      if (!runs.empty() && random.below(2) == 0) {
        const std::size_t at = random.below(runs.size());
        for (std::uint32_t k = 0; k < runs[at].count; ++k) used[runs[at].base + k] = false;
        arena.give_back(runs[at]);
        runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(at));
      } else {
        const auto count = static_cast<std::uint32_t>(1 + random.below(40));
        datapath::Run run{static_cast<std::uint32_t>(random.below(kSize)), count};
        bool free = true;
        for (std::uint32_t k = 0; k < count; ++k) free = free && run.base + k < kSize && !used[run.base + k];
        if (random.below(3) == 0) {
          RC_ASSERT(arena.reserve(run) == free);
          if (!free) continue;
        } else {
          const auto base = arena.take(count);
          RC_ASSERT(base.has_value() == (longest_free() >= count));
          if (!base) continue;
          run.base = *base;
        }
        for (std::uint32_t k = 0; k < count; ++k) {
          RC_ASSERT(!used[run.base + k]);
          used[run.base + k] = true;
        }
        runs.push_back(run);
      }
      RC_ASSERT(arena.largest_free_run() == longest_free());
      RC_ASSERT(arena.available() == static_cast<std::uint32_t>(std::count(used.begin(), used.end(), false)));
    }
  }));
}

}  // namespace
}  // namespace mesh::datapath
