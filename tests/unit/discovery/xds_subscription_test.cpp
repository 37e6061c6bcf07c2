// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_subscription.hpp"

#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using base::TimePoint;
using xds::Request;

const TimePoint kStart = TimePoint{} + 1h;

xds::Answer answer(const std::string& version, const std::string& nonce) {
  xds::Answer answer;
  answer.version = version;
  answer.nonce = nonce;
  return answer;
}

TEST(XdsSubscription, the_first_request_of_a_stream_has_no_version_and_no_nonce) {
  XdsSubscription clusters(xds::Type::kCluster);
  EXPECT_EQ(clusters.take(kStart), std::nullopt);
  clusters.want({}, kStart, true);
  EXPECT_EQ(clusters.take(kStart), Request{.type = xds::Type::kCluster});
  EXPECT_EQ(clusters.take(kStart), std::nullopt) << "once";

  clusters.accept(answer("7", "n1"), kStart);
  clusters.restart();
  clusters.want({}, kStart, true);
  EXPECT_EQ(clusters.take(kStart), Request{.type = xds::Type::kCluster}) << "so that the next server says everything";
}

TEST(XdsSubscription, an_acceptance_has_the_version_and_a_refusal_the_last_accepted_one_with_the_reason) {
  XdsSubscription clusters(xds::Type::kCluster);
  clusters.want({}, kStart, true);
  (void)clusters.take(kStart);
  clusters.accept(answer("7", "n1"), kStart);
  EXPECT_EQ(clusters.take(kStart), (Request{.type = xds::Type::kCluster, .version = "7", .nonce = "n1"}));
  clusters.refuse(answer("8", "n2"), "bad", kStart);
  EXPECT_EQ(clusters.take(kStart),
            (Request{.type = xds::Type::kCluster, .version = "7", .nonce = "n2", .error = "bad"}));
  clusters.accept(answer("9", "n3"), kStart);
  EXPECT_EQ(clusters.take(kStart), (Request{.type = xds::Type::kCluster, .version = "9", .nonce = "n3"}));
  EXPECT_EQ(clusters.version(), "9");
}

TEST(XdsSubscription, names_that_change_are_said_with_the_last_nonce_and_nothing_is_asked_for_before_there_are_any) {
  XdsSubscription endpoints(xds::Type::kEndpoints);
  endpoints.want({}, kStart);
  EXPECT_EQ(endpoints.take(kStart), std::nullopt) << "no names would mean everything";
  endpoints.want({"a"}, kStart);
  EXPECT_EQ(endpoints.take(kStart), (Request{.type = xds::Type::kEndpoints, .names = {"a"}}));
  endpoints.accept(answer("1", "n1"), kStart);
  endpoints.want({"a", "b"}, kStart);
  EXPECT_EQ(endpoints.take(kStart),
            (Request{.type = xds::Type::kEndpoints, .version = "1", .nonce = "n1", .names = {"a", "b"}}))
      << "one request for both";
  endpoints.want({"a", "b"}, kStart);
  EXPECT_EQ(endpoints.take(kStart), std::nullopt);
  endpoints.want({}, kStart);
  EXPECT_EQ(endpoints.take(kStart), (Request{.type = xds::Type::kEndpoints, .version = "1", .nonce = "n1"}))
      << "after names were said, none is none";
}

TEST(XdsSubscription, refusals_in_a_row_wait_longer_each_time) {
  XdsSubscription clusters(xds::Type::kCluster);
  clusters.want({}, kStart, true);
  (void)clusters.take(kStart);
  TimePoint now = kStart;
  for (const auto wait : {0s, 1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
    clusters.refuse(answer("8", "n"), "bad", now);
    ASSERT_EQ(clusters.due(), now + wait);
    if (wait > 0s) EXPECT_EQ(clusters.take(now + wait - 1ms), std::nullopt);
    now += wait;
    EXPECT_NE(clusters.take(now), std::nullopt);
  }
  clusters.accept(answer("9", "n"), now);
  clusters.refuse(answer("10", "n"), "bad", now);
  EXPECT_EQ(clusters.due(), now);
}

}  // namespace
}  // namespace mesh::discovery
