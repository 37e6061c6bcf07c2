// SPDX-License-Identifier: Apache-2.0
#include "health/standing_board.hpp"

#include <gtest/gtest.h>

#include "tests/support/routing_builder.hpp"

namespace mesh::health {
namespace {

using model::Ejection;

base::WallTime at(int seconds) { return base::WallTime(std::chrono::seconds(seconds)); }

const model::Frontend kFrontend = support::service({.frontend = "240.0.0.1:80"}).frontend;
const base::SocketAddress kFirst = support::address("10.0.0.1:80");
const base::SocketAddress kSecond = support::address("10.0.0.2:80");

TEST(StandingBoard, says_a_change_once) {
  StandingBoard board;
  EXPECT_TRUE(board.take_changes().empty());
  board.set_start(kFrontend, kSecond, 20);
  board.set_start(kFrontend, kFirst, 10);
  const auto changes = board.take_changes();
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].first, kFrontend);
  ASSERT_EQ(changes[0].second->endpoints.size(), 2U);
  EXPECT_EQ(changes[0].second->find(kFirst)->share_percent, 10U);
  EXPECT_EQ(changes[0].second->find(kSecond)->share_percent, 20U);
  board.set_start(kFrontend, kFirst, 10);
  board.set_drain(kFrontend, kSecond, std::nullopt);
  EXPECT_TRUE(board.take_changes().empty());
}

TEST(StandingBoard, a_service_with_nothing_to_say_leaves_the_view) {
  StandingBoard board;
  board.set_ejection(kFrontend, kFirst, {.state = Ejection::kEjected, .ejections = 2, .reason = "refused"});
  EXPECT_NE(board.take_changes().at(0).second, nullptr);
  board.set_ejection(kFrontend, kFirst, {.state = Ejection::kNone, .reason = "is not looked at"});
  const auto changes = board.take_changes();
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].second, nullptr);
}

TEST(StandingBoard, a_drain_speaks_before_an_ejection_and_the_lower_share_counts) {
  StandingBoard board;
  board.set_ejection(
      kFrontend, kFirst,
      {.state = Ejection::kProbation, .ejections = 1, .share_percent = 10, .since = at(5), .reason = "e"});
  board.set_start(kFrontend, kFirst, 30);
  auto standing = board.take_changes().at(0).second;
  EXPECT_EQ(standing->endpoints, (std::vector<model::EndpointStanding>{{.address = kFirst,
                                                                        .ejection = Ejection::kProbation,
                                                                        .ejections = 1,
                                                                        .share_percent = 10,
                                                                        .since = at(5),
                                                                        .reason = "e"}}));
  board.set_drain(kFrontend, kFirst, DrainAspect{at(7), "d"});
  standing = board.take_changes().at(0).second;
  EXPECT_TRUE(standing->endpoints[0].drained);
  EXPECT_EQ(standing->endpoints[0].reason, "d");
  EXPECT_EQ(standing->endpoints[0].since, at(7));
  EXPECT_EQ(standing->endpoints[0].ejection, Ejection::kProbation);
}

}  // namespace
}  // namespace mesh::health
