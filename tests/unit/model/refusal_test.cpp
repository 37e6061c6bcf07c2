// SPDX-License-Identifier: Apache-2.0
#include "model/refusal.hpp"

#include <gtest/gtest.h>

namespace mesh::model {
namespace {

using namespace std::chrono_literals;

const base::WallTime kNow = base::WallTime{} + 1h;

TEST(Refusals, the_newest_is_first_and_the_same_one_is_counted) {
  Refusals refusals;
  refusals.note({.what = "endpoints", .version = "1", .why = "a"}, kNow);
  refusals.note({.what = "endpoints", .version = "2", .why = "b"}, kNow + 1s);
  refusals.note({.what = "endpoints", .version = "1", .why = "a"}, kNow + 2s);
  ASSERT_EQ(refusals.newest_first().size(), 2U);
  EXPECT_EQ(refusals.newest_first()[0].why, "a");
  EXPECT_EQ(refusals.newest_first()[0].times, 2U);
  EXPECT_EQ(refusals.newest_first()[0].at, kNow + 2s);
  EXPECT_EQ(refusals.total(), 3U);
}

TEST(Refusals, are_bounded) {
  Refusals refusals;
  for (int i = 0; i < 100; ++i) {
    refusals.note({.client = std::string(100'000, 'c'),
                   .what = "clusters",
                   .version = std::to_string(i),
                   .why = std::string(100'000, 'x')},
                  kNow);
  }
  ASSERT_EQ(refusals.newest_first().size(), Refusals::kMost);
  EXPECT_EQ(refusals.newest_first()[0].version, "99");
  EXPECT_EQ(refusals.newest_first()[0].why.size(), Refusals::kMaxText);
  EXPECT_EQ(refusals.newest_first()[0].client.size(), Refusals::kMaxText);
  EXPECT_EQ(refusals.total(), 100U);
}

}  // namespace
}  // namespace mesh::model
