// SPDX-License-Identifier: Apache-2.0
#include "app/ejector.hpp"

#include <gtest/gtest.h>

namespace mesh::app {
namespace {

using health::Mishap;
using model::Protocol;

/// A different number of each outcome.
datapath::BackendNews news() {
  datapath::BackendNews backend{.address = {}, .news = {.opened = 100, .established = 50, .failed = 60}};
  for (std::size_t outcome = 0; outcome < MESH_OUTCOMES; ++outcome) backend.news.ended[outcome] = 10 * outcome;
  backend.failures_in_row = 7;
  return backend;
}

std::uint64_t of(const health::Experience& experience, Mishap mishap) {
  return experience.mishaps[static_cast<std::size_t>(mishap)];
}

TEST(ExperienceOf, connects_that_failed_are_failures) {
  const auto experience = experience_of(news(), Protocol::kTcp, {});
  EXPECT_EQ(experience.opened, 100U);
  EXPECT_EQ(experience.successes, 50U);
  EXPECT_EQ(of(experience, Mishap::kRefused), 10U * MESH_REFUSED);
  EXPECT_EQ(of(experience, Mishap::kTimedOut), 10U * MESH_TIMED_OUT);
  EXPECT_EQ(of(experience, Mishap::kUnreachable), 10U * MESH_UNREACHABLE);
  EXPECT_EQ(of(experience, Mishap::kReset), 0U);
  EXPECT_EQ(of(experience, Mishap::kAborted), 0U);
  EXPECT_EQ(experience.in_row, 7U);
}

TEST(ExperienceOf, connections_that_were_cut_off_are_failures_if_wanted) {
  const auto experience = experience_of(news(), Protocol::kTcp, {.count_reset = true});
  EXPECT_EQ(of(experience, Mishap::kReset), 10U * (MESH_RESET + MESH_LOST));
  EXPECT_EQ(experience.successes, 10U * MESH_CLOSED) << "an established one may still be cut off";
  EXPECT_FALSE(experience.in_row) << "the kernel's row does not know them";
}

TEST(ExperienceOf, connects_that_were_given_up_are_failures_if_wanted) {
  const auto experience = experience_of(news(), Protocol::kTcp, {.count_given_up = true});
  EXPECT_EQ(of(experience, Mishap::kAborted), 10U * MESH_ABORTED);
  EXPECT_EQ(experience.successes, 50U);
  EXPECT_FALSE(experience.in_row);
}

TEST(ExperienceOf, a_udp_socket_succeeds_by_ending_well) {
  const auto experience = experience_of(news(), Protocol::kUdp, {});
  EXPECT_EQ(experience.successes, 10U * MESH_CLOSED);
  EXPECT_FALSE(experience.in_row) << "nothing would end the kernel's row";
}

}  // namespace
}  // namespace mesh::app
