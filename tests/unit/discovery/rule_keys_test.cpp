// SPDX-License-Identifier: Apache-2.0
#include "discovery/rule_keys.hpp"

#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

TEST(RuleKeys, star_and_question_mark) {
  const auto matches = matches_pattern;
  EXPECT_TRUE(matches("orders", "orders"));
  EXPECT_FALSE(matches("orders", "orders2"));
  EXPECT_TRUE(matches("pay-*", "pay-eu"));
  EXPECT_TRUE(matches("*-eu", "pay-eu"));
  EXPECT_TRUE(matches("p?y*u", "pay-eu"));
  EXPECT_FALSE(matches("p?y", "py"));
  EXPECT_TRUE(matches("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(matches("a*b*c", "a-b-b-d"));
  EXPECT_TRUE(matches("**", ""));
}

TEST(RuleKeys, all_matches_everything_and_is_no_name) {
  EXPECT_TRUE(rule_matches("all", "orders"));
  EXPECT_TRUE(rule_matches("pay-*", "pay-eu"));
  EXPECT_FALSE(rule_matches("orders", "all"));
  EXPECT_FALSE(is_exact_match("all"));
  EXPECT_FALSE(is_exact_match("pay-?"));
  EXPECT_TRUE(is_exact_match("orders"));
}

}  // namespace
}  // namespace mesh::discovery
