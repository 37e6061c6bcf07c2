// SPDX-License-Identifier: Apache-2.0
#include "base/suggest.hpp"

#include <gtest/gtest.h>

#include <array>

namespace mesh::base {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"round_robin", "maglev", "weighted_random", "hash_key"};

TEST(Suggest, finds_what_was_meant) {
  EXPECT_EQ(nearest_name("roundrobin", kNames), "round_robin");
  EXPECT_EQ(nearest_name("Round-Robin", kNames), "round_robin");
  EXPECT_EQ(nearest_name("magelv", kNames), "maglev");
  EXPECT_EQ(nearest_name("weighted", kNames), "weighted_random");
  EXPECT_EQ(nearest_name("hash_keys", kNames), "hash_key");
}

TEST(Suggest, says_nothing_about_what_is_far) {
  EXPECT_EQ(nearest_name("x", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name(std::string(100'000, 'a'), kNames), "");
  EXPECT_EQ(suggest_name("x", kNames), "use one of: round_robin, maglev, weighted_random, hash_key");
}

}  // namespace
}  // namespace mesh::base
