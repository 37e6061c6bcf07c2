// SPDX-License-Identifier: Apache-2.0
#include "observe/flows.hpp"

#include <gtest/gtest.h>

namespace mesh::observe {
namespace {

mesh_event event(std::uint64_t cookie, std::uint32_t backend = 1, std::uint32_t connect_us = 0) {
  mesh_event sample{};
  sample.owner.cookie = cookie;
  sample.owner.backend_id = backend;
  sample.owner.backend_generation = 3;
  sample.owner.connect_us = connect_us;
  return sample;
}

bool any(const mesh_event&) { return true; }

std::vector<std::uint64_t> ids(const FlowLog::Page& page) {
  std::vector<std::uint64_t> list;
  for (const auto& flow : page.flows) {
    EXPECT_EQ(flow.event.owner.cookie, flow.id * 10);
    list.push_back(flow.id);
  }
  return list;
}

using Ids = std::vector<std::uint64_t>;

TEST(FlowLog, follows_from_where_it_was_and_says_what_it_missed) {
  FlowLog log(4);
  EXPECT_EQ(log.read(0, 10, any).next, 0U);
  for (std::uint64_t id = 1; id <= 3; ++id) log.add(event(id * 10));
  EXPECT_EQ(ids(log.read(0, 10, any)), (Ids{1, 2, 3}));
  EXPECT_EQ(ids(log.read(0, 2, any)), (Ids{2, 3})) << "the newest";
  const auto page = log.read(1, 1, any);
  EXPECT_EQ(ids(page), Ids{2});
  EXPECT_EQ(page.next, 2U);
  for (std::uint64_t id = 4; id <= 9; ++id) log.add(event(id * 10));
  const auto late = log.read(2, 10, any);
  EXPECT_EQ(ids(late), (Ids{6, 7, 8, 9}));
  EXPECT_EQ(late.missed, 3U);
  EXPECT_EQ(late.next, 9U);
  EXPECT_EQ(late.read, 9U);
  const auto none = log.read(9, 10, any);
  EXPECT_TRUE(none.flows.empty());
  EXPECT_EQ(none.missed, 0U);
  EXPECT_EQ(none.next, 9U);
}

TEST(FlowLog, what_does_not_match_is_passed_over_and_not_looked_at_again) {
  FlowLog log(8);
  for (std::uint64_t id = 1; id <= 6; ++id) log.add(event(id * 10));
  const auto even = [](const mesh_event& one) { return one.owner.cookie % 20 == 0; };
  EXPECT_EQ(ids(log.read(0, 2, even)), (Ids{4, 6}));
  const auto page = log.read(1, 1, even);
  EXPECT_EQ(ids(page), Ids{2});
  EXPECT_EQ(page.next, 2U);
  EXPECT_EQ(log.read(6, 1, even).next, 6U);
}

TEST(FlowLog, an_id_of_another_agent_starts_at_the_newest) {
  FlowLog log(8);
  log.add(event(10));
  const auto page = log.read(5000, 10, any);
  EXPECT_EQ(ids(page), Ids{1});
  EXPECT_EQ(page.missed, 0U);
}

TEST(FlowLog, latencies_are_of_a_backends_identity) {
  FlowLog log(8);
  log.add(event(10, 1, 1));
  log.add(event(20, 1, 1000));
  log.add(event(30, 1, 1023));
  log.add(event(40, 1, 0));
  log.add(event(50, 2, 5));
  const auto buckets = log.latencies(1, 3);
  EXPECT_EQ(buckets[0], 1U);
  EXPECT_EQ(buckets[9], 2U) << "512 to 1023 us";
  EXPECT_EQ(log.latencies(1, 4), LatencyBuckets{});
}

TEST(FlowLog, latencies_of_a_backend_that_is_gone_are_forgotten) {
  FlowLog log(8, 4);
  mesh_event first = event(1, 1, 5);
  log.add(first);
  first.owner.backend_generation += 1;
  log.add(first);
  first.owner.backend_generation -= 1;
  log.add(first);
  EXPECT_EQ(log.latencies(1, first.owner.backend_generation), LatencyBuckets{}) << "the id is another's by now";
  EXPECT_EQ(log.latencies(1, first.owner.backend_generation + 1)[2], 1U);
  for (std::uint32_t backend = 2; backend <= 5; ++backend) log.add(event(backend, backend, 5));
  EXPECT_EQ(log.latencies(1, first.owner.backend_generation + 1), LatencyBuckets{}) << "silent for longest";
  EXPECT_EQ(log.latencies(4, 3)[2], 1U);
  EXPECT_EQ(log.latencies(5, 3)[2], 1U) << "there is room for who is new";
}

TEST(Outcomes, have_names_that_read_back) {
  for (std::uint8_t outcome = 0; outcome < MESH_OUTCOMES; ++outcome) {
    EXPECT_EQ(outcome_from(outcome_name(outcome)), outcome);
  }
  EXPECT_EQ(outcome_name(200), "unknown");
  EXPECT_FALSE(outcome_from("nonsense"));
  EXPECT_TRUE(is_failure(MESH_REFUSED));
  EXPECT_FALSE(is_failure(MESH_KILLED)) << "by this host's operator";
}

}  // namespace
}  // namespace mesh::observe
