// SPDX-License-Identifier: Apache-2.0
#include "cli/traffic_view.hpp"

#include <gtest/gtest.h>

namespace mesh::cli {
namespace {

using Buckets = std::vector<std::uint64_t>;

TEST(Quantile, lies_in_the_bucket_that_holds_it) {
  EXPECT_EQ(quantile_us({}, 0.5), std::nullopt);
  EXPECT_EQ(quantile_us({0, 0}, 0.5), std::nullopt);
  EXPECT_EQ(quantile_us({0, 0, 0, 10}, 0.5), 12U) << "the middle of 8 to 16";
  EXPECT_EQ(quantile_us({0, 0, 0, 10}, 1), 16U);
  EXPECT_EQ(quantile_us({99, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0.5), 1U);
  EXPECT_EQ(quantile_us({99, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0.999), 512U + 460U) << "0.9 of the way from 512 to 1024";
}

TEST(Quantile, grows_with_the_share_and_stays_in_range) {
  Buckets buckets(24);
  for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] = (i * 7919) % 13;
  std::uint32_t before = 0;
  for (int percent = 0; percent <= 100; ++percent) {
    const auto value = quantile_us(buckets, percent / 100.0);
    ASSERT_TRUE(value);
    EXPECT_GE(*value, before);
    before = *value;
  }
  EXPECT_LE(before, 1U << 24);
}

api::TrafficList list(std::uint64_t first, std::uint64_t second, std::uint32_t generation) {
  api::TrafficList traffic;
  traffic.items = {{.service = "orders", .frontend = "240.64.0.10:80/tcp"}};
  auto& service = traffic.items[0];
  service.backends = {{"10.0.0.1:80", 1, 1, {.opened = first}}, {"10.0.0.2:80", 2, generation, {.opened = second}}};
  service.counts.opened = first + second;
  service.counts.latency = {first};
  return traffic;
}

TEST(Difference, is_what_came_since_also_when_a_backend_was_replaced) {
  const auto same = difference(list(5, 7, 1), list(6, 9, 1));
  EXPECT_EQ(same.items[0].counts.opened, 3U);
  EXPECT_EQ(same.items[0].counts.latency, Buckets{1});
  EXPECT_EQ(same.items[0].backends[1].counts.opened, 2U);
  // Under id 2 there is another backend now: its counts are all new, and the old one's are not taken away.
  api::TrafficList after = list(6, 1, 2);
  after.items[0].counts.opened = 6 + 7 + 1;
  const auto replaced = difference(list(5, 7, 1), after);
  EXPECT_EQ(replaced.items[0].backends[1].counts.opened, 1U);
  EXPECT_EQ(replaced.items[0].counts.opened, 2U);
  EXPECT_EQ(difference({}, list(6, 1, 2)).items[0].counts.opened, 7U) << "a service that is new";
}

TEST(Traffic, reads_letter_by_letter) {
  api::TrafficList traffic = list(10, 0, 1);
  traffic.items[0].counts.closed = 4;
  traffic.items[0].counts.failed = 2;
  traffic.items[0].counts.latency = {0, 0, 0, 0, 0, 0, 0, 0, 0, 8};
  traffic.left_out = 3;
  EXPECT_EQ(traffic_text(traffic, traffic, 2, {}),
            "SERVICE        CONNECTS/S  OPEN  FAILED/S  CUT/S  P50    P95    P99    SRTT  OUT  IN   RETR\n"
            "orders                5.0     6       1.0    0.0  768us  998us  1.0ms  -     0 B  0 B     0\n"
            "  10.0.0.1:80         5.0    10       0.0    0.0  -      -      -      -     0 B  0 B     0\n"
            "... and 3 more services: --limit, or name one\n");
}

}  // namespace
}  // namespace mesh::cli
