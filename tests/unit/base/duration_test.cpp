// SPDX-License-Identifier: Apache-2.0
#include "base/duration.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"

namespace mesh::base {
namespace {

using namespace std::chrono_literals;

TEST(Duration, is_read_as_people_write_it) {
  EXPECT_EQ(parse_duration("500ms"), Duration(500ms));
  EXPECT_EQ(parse_duration("1m30s"), Duration(90s));
  EXPECT_EQ(parse_duration("0"), Duration(0));
  EXPECT_EQ(parse_duration("2d"), Duration(48h));
  EXPECT_EQ(parse_duration("1h1ns"), Duration(1h + 1ns));
}

TEST(Duration, wrong_text_is_refused_with_a_remedy) {
  for (const char* text :
       {"", "5", "s", "5sec", "-5s", "1.5s", "5 s", "99999d", "9999999999999999999s", "+5s", "5s3"}) {
    const auto duration = parse_duration(text);
    ASSERT_FALSE(duration) << text;
    EXPECT_FALSE(duration.error().remedy.empty()) << text;
  }
}

TEST(Duration, text_survives_a_round_trip) {
  const std::uint64_t seed = 7;
  Random random(seed);
  for (int round = 0; round < 1000; ++round) {
    const Duration duration(static_cast<std::int64_t>(random.below(std::uint64_t{1} << random.below(49))));
    EXPECT_EQ(parse_duration(format_duration(duration)), duration)
        << "seed " << seed << ": " << format_duration(duration);
  }
}

}  // namespace
}  // namespace mesh::base
