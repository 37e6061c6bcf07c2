// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/statistics.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.hpp"

namespace mesh::bench {
namespace {

TEST(Statistics, median_is_the_middle_or_the_mean_of_two) {
  EXPECT_EQ(median_interval({3, 1, 2}).median, 2);
  EXPECT_EQ(median_interval({4, 1, 3, 2}).median, 2.5);
  EXPECT_EQ(median_interval({7}).median, 7);
}

TEST(Statistics, few_values_give_their_whole_range) {
  const Interval interval = median_interval({5, 1, 3});
  EXPECT_EQ(interval.low, 1);
  EXPECT_EQ(interval.high, 5);
}

TEST(Statistics, quantile_is_the_nearest_rank) {
  std::vector<double> values;
  for (int i = 1; i <= 100; ++i) values.push_back(i);
  EXPECT_EQ(quantile(values, 0.5), 50);
  EXPECT_EQ(quantile(values, 0.99), 99);
  EXPECT_EQ(quantile(values, 1), 100);
  EXPECT_EQ(quantile(values, 0), 1);
}

TEST(Statistics, interval_holds_the_true_median_about_95_times_of_100) {
  constexpr std::uint64_t kSeed = 20261120;
  RecordProperty("seed", std::to_string(kSeed));
  base::Random random(kSeed);
  int held = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> values;
    // Skewed on purpose: squared uniform, whose median is 0.25.
    for (int i = 0; i < 101; ++i) values.push_back(random.uniform());
    for (double& value : values) value *= value;
    const Interval interval = median_interval(values);
    held += interval.low <= 0.25 && 0.25 <= interval.high ? 1 : 0;
  }
  EXPECT_GE(held, kTrials * 94 / 100) << "seed " << kSeed;
  EXPECT_LE(held, kTrials * 99 / 100) << "seed " << kSeed;
}

}  // namespace
}  // namespace mesh::bench
