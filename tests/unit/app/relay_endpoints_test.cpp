// SPDX-License-Identifier: Apache-2.0
#include "app/relay_endpoints.hpp"

#include <gtest/gtest.h>

namespace mesh::app {
namespace {

constexpr const char* kFrontend = "240.64.0.10:443";
constexpr const char* kEndpoint = "10.0.0.1:8443";

health::EndpointKey key(const char* endpoint = kEndpoint) {
  return {{*base::SocketAddress::parse(kFrontend), model::Protocol::kTcp}, *base::SocketAddress::parse(endpoint)};
}

api::RelayEndpointView report(std::uint64_t begun, std::uint64_t established, std::uint64_t refused,
                              std::uint64_t open = 0) {
  return {.frontend = kFrontend,
          .endpoint = kEndpoint,
          .open = open,
          .begun = begun,
          .established = established,
          .refused = refused};
}

TEST(RelayedEndpoints, what_a_relay_says_first_is_no_news_and_then_what_is_new) {
  RelayedEndpoints endpoints;
  int relay = 0;
  endpoints.take(&relay, {report(10, 8, 2)});
  EXPECT_TRUE(endpoints.take_news().empty()) << "nobody knows when that was";
  endpoints.take(&relay, {report(10, 8, 2)});
  EXPECT_TRUE(endpoints.take_news().empty());
  endpoints.take(&relay, {report(12, 8, 3)});
  endpoints.take(&relay, {report(12, 9, 3)});
  auto news = endpoints.take_news();
  ASSERT_EQ(news.size(), 1U);
  EXPECT_EQ(news[key()].begun, 2U);
  EXPECT_EQ(news[key()].established, 1U);
  EXPECT_EQ(news[key()].refused, 1U);
  EXPECT_TRUE(endpoints.take_news().empty()) << "said once";
  // The relay forgot the endpoint and began anew with it.
  endpoints.take(&relay, {});
  endpoints.take(&relay, {report(1, 0, 1)});
  news = endpoints.take_news();
  EXPECT_EQ(news[key()].refused, 1U);
}

TEST(RelayedEndpoints, connections_of_a_relay_and_its_successor_are_added_up) {
  RelayedEndpoints endpoints;
  int one = 0;
  int other = 0;
  endpoints.take(&one, {report(5, 5, 0, 5)});
  endpoints.take(&other, {});
  endpoints.take(&other, {report(2, 1, 1, 1)});
  EXPECT_EQ(endpoints.take_news()[key()].begun, 2U);
  auto open = endpoints.open();
  ASSERT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0].key, key());
  EXPECT_EQ(open[0].count, 6U);
  endpoints.forget(&one);
  EXPECT_EQ(endpoints.open()[0].count, 1U);
  endpoints.take(&other, {report(2, 1, 1, 0)});
  EXPECT_TRUE(endpoints.open().empty());
}

TEST(RelayedEndpoints, nonsense_is_left_out) {
  RelayedEndpoints endpoints;
  int relay = 0;
  endpoints.take(&relay, {{.frontend = "", .endpoint = "x", .open = 3}});
  EXPECT_TRUE(endpoints.open().empty());
}

TEST(RelayedEndpoints, failures_of_tls_count_as_those_of_connections_do) {
  const api::RelayEndpointView news{.begun = 9,
                                    .established = 2,
                                    .refused = 1,
                                    .timed_out = 2,
                                    .unreachable = 1,
                                    .not_agreed = 3,
                                    .closed = 1,
                                    .cut_off = 1};
  const auto experience = experience_of(key().second, news, {});
  EXPECT_EQ(experience.opened, 9U);
  EXPECT_EQ(experience.successes, 2U);
  EXPECT_EQ(experience.failures(), 7U);
  EXPECT_EQ(experience.mishaps[static_cast<std::size_t>(health::Mishap::kTls)], 3U);
  const auto strict = experience_of(key().second, news, {.count_reset = true});
  EXPECT_EQ(strict.successes, 1U) << "those that ended well";
  EXPECT_EQ(strict.failures(), 8U);
}

}  // namespace
}  // namespace mesh::app
