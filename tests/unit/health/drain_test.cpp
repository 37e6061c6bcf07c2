// SPDX-License-Identifier: Apache-2.0
#include "health/drain.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "balance/route.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::health {
namespace {

using std::chrono::seconds;

constexpr const char* kVip = "240.0.0.1:80";
constexpr const char* kFirst = "10.0.0.1:80";
constexpr const char* kSecond = "10.0.0.2:80";

/// A node with a service of two endpoints, connections to them, and a clock.
class Drain : public ::testing::Test {
 protected:
  static model::Service two_endpoints() {
    model::Service service = support::service({.frontend = kVip, .endpoints = {{kFirst, 1}, {kSecond, 1}}});
    service.name = "web";
    return service;
  }

  void set(const model::Service& service, const model::ServiceHealthPtr& health = nullptr) {
    table_ = support::table({balance::route_service(std::make_shared<const model::Service>(service), health, nullptr)},
                            ++generation_);
  }
  void remove_service() { table_ = support::table({}, ++generation_); }

  mesh_owner& connect(const char* endpoint, std::uint64_t cookie, std::uint8_t protocol = 6) {
    mesh_owner& record = records_.emplace_back();
    const auto fill = [](const char* text, std::uint8_t* bytes, __be16& port) {
      const auto address = support::address(text);
      std::ranges::copy(address.ip.bytes, bytes);
      port = htons(address.port);
    };
    fill(kVip, record.frontend_addr, record.frontend_port_be);
    fill(endpoint, record.backend_addr, record.backend_port_be);
    record.cookie = cookie;
    record.proto = protocol;
    record.backend_id = endpoint == kFirst ? 1 : 2;
    record.backend_generation = 1;
    record.start_ns = static_cast<std::uint64_t>(now_.time_since_epoch().count());
    return record;
  }

  DrainPlanner::Look look() {
    last_ = planner_.look({.now = now_,
                           .wall = base::WallTime(now_.time_since_epoch()),
                           .table = table_,
                           .orders = orders_,
                           .relayed_table = relayed_table_,
                           .relayed = relayed_,
                           .for_each_record = [this](const auto& visit) { std::ranges::for_each(records_, visit); }});
    return last_;
  }
  std::vector<std::uint64_t> due() {
    std::vector<std::uint64_t> cookies;
    for (const auto& due : look().due) cookies.push_back(due.record.cookie);
    std::ranges::sort(cookies);
    return cookies;
  }
  void pass(base::Duration duration) { now_ += duration; }
  using Cookies = std::vector<std::uint64_t>;

  DrainPlanner planner_;
  DrainOrders orders_;
  model::RoutingTablePtr table_;
  model::RoutingTablePtr relayed_table_;
  std::vector<RelayedConnections> relayed_;
  std::vector<mesh_owner> records_;
  base::TimePoint now_{seconds(1000)};
  DrainPlanner::Look last_;
  std::uint64_t generation_ = 0;
};

TEST_F(Drain, connections_of_a_removed_endpoint_are_due_after_the_timeout_and_only_they) {
  model::Service service = two_endpoints();
  set(service);
  connect(kFirst, 1);
  connect(kFirst, 2);
  connect(kSecond, 3);
  EXPECT_EQ(due(), Cookies{});
  EXPECT_TRUE(last_.leaving.empty());
  std::erase_if(service.endpoints, [](const auto& one) { return one.address == support::address(kFirst); });
  set(service);
  EXPECT_EQ(due(), Cookies{});
  ASSERT_EQ(last_.leaving.size(), 1U);
  EXPECT_EQ(last_.leaving[0].service, "web");
  EXPECT_EQ(last_.leaving[0].reason, DrainReason::kRemoved);
  EXPECT_EQ(last_.leaving[0].connections, 2U);
  pass(seconds(29));
  EXPECT_EQ(due(), Cookies{});
  EXPECT_EQ(last_.next, now_ + seconds(1));
  pass(seconds(1));
  EXPECT_EQ(due(), (Cookies{1, 2}));
}

TEST_F(Drain, connections_of_the_relay_are_judged_by_the_endpoints_behind_it) {
  model::Service service = two_endpoints();
  service.drain.timeout = seconds(5);
  service.drain.max_age = seconds(1);
  model::Service stand_in = service;
  stand_in.endpoints = {{.address = support::address("127.0.0.1:15400")}};
  const auto route = [&](const model::Service& of) {
    return support::table({balance::route_service(std::make_shared<const model::Service>(of), nullptr, nullptr)},
                          ++generation_);
  };
  table_ = route(stand_in);
  relayed_table_ = route(service);
  const EndpointKey first{{support::address(kVip), model::Protocol::kTcp}, support::address(kFirst)};
  relayed_ = {{first, 3}, {{first.first, support::address(kSecond)}, 1}};
  connect("127.0.0.1:15400", 1);  // an application's, to the relay
  EXPECT_EQ(due(), Cookies{});
  EXPECT_TRUE(last_.leaving.empty());
  orders_[first] = {.since = base::WallTime(now_.time_since_epoch())};
  EXPECT_EQ(due(), Cookies{});
  ASSERT_EQ(last_.leaving.size(), 1U);
  EXPECT_EQ(last_.leaving[0].connections, 3U);
  EXPECT_EQ(last_.leaving[0].reason, DrainReason::kDrained);
  EXPECT_TRUE(last_.relayed_due.empty());
  pass(seconds(5));
  EXPECT_EQ(due(), Cookies{}) << "the application's ends by itself";
  ASSERT_EQ(last_.relayed_due.size(), 1U);
  EXPECT_EQ(last_.relayed_due[0].key, first);
  EXPECT_EQ(last_.relayed_due[0].count, 3U);
  pass(seconds(1));
  look();
  EXPECT_TRUE(last_.relayed_due.empty()) << "it was told, and says soon what became of it";
  relayed_[0].count = 1;
  pass(DrainPlanner::kRelayedAgain);
  look();
  ASSERT_EQ(last_.relayed_due.size(), 1U) << "one came late";
  EXPECT_EQ(last_.leaving[0].reset, 4U);
  relayed_.clear();
  orders_.clear();
  EXPECT_TRUE(look().leaving.empty());
}

TEST_F(Drain, a_service_that_goes_keeps_the_timeout_it_had) {
  model::Service service = two_endpoints();
  service.drain.timeout = seconds(5);
  set(service);
  connect(kFirst, 1);
  connect(kSecond, 2);
  due();
  remove_service();
  EXPECT_EQ(due(), Cookies{});
  pass(seconds(5));
  EXPECT_EQ(due(), (Cookies{1, 2}));
  EXPECT_EQ(last_.leaving.at(0).service, "web");
}

TEST_F(Drain, at_once_and_never) {
  model::Service service = two_endpoints();
  service.endpoints[0].draining = true;
  service.drain.timeout = seconds(0);
  connect(kFirst, 1);
  set(service);
  EXPECT_EQ(due(), Cookies{1});
  service.drain.timeout.reset();
  set(service);
  pass(std::chrono::hours(1000));
  EXPECT_EQ(due(), Cookies{});
  EXPECT_EQ(last_.leaving.at(0).reason, DrainReason::kDraining);
  EXPECT_FALSE(last_.leaving.at(0).deadline);
}

TEST_F(Drain, an_endpoint_that_comes_back_keeps_its_connections) {
  model::Service service = two_endpoints();
  connect(kFirst, 1);
  service.endpoints[0].draining = true;
  set(service);
  due();
  pass(seconds(29));
  service.endpoints[0].draining = false;
  set(service);
  EXPECT_EQ(due(), Cookies{});
  service.endpoints[0].draining = true;
  set(service);
  due();
  pass(seconds(29));  // the time begins anew
  EXPECT_EQ(due(), Cookies{});
  pass(seconds(1));
  EXPECT_EQ(due(), Cookies{1});
}

TEST_F(Drain, what_is_drained_and_then_removed_began_when_it_was_drained) {
  model::Service service = two_endpoints();
  connect(kFirst, 1);
  service.endpoints[0].draining = true;
  set(service);
  due();
  pass(seconds(20));
  service.endpoints.erase(service.endpoints.begin());
  set(service);
  EXPECT_EQ(due(), Cookies{});
  pass(seconds(10));
  EXPECT_EQ(due(), Cookies{1});
  EXPECT_EQ(last_.due[0].reason, DrainReason::kRemoved);
}

TEST_F(Drain, an_order_has_its_own_timeout_and_outlives_the_agent) {
  const model::Service service = two_endpoints();
  set(service);
  connect(kFirst, 1);
  const EndpointKey key{service.frontend, support::address(kFirst)};
  // Given 40 s ago, to an earlier agent.
  orders_[key] = {.timeout = seconds(60), .since = base::WallTime(now_.time_since_epoch() - seconds(40))};
  EXPECT_EQ(due(), Cookies{});
  EXPECT_EQ(last_.leaving.at(0).reason, DrainReason::kDrained);
  pass(seconds(20));
  EXPECT_EQ(due(), Cookies{1});
  orders_[key].timeout = std::optional<seconds>();  // never
  EXPECT_EQ(due(), Cookies{});
  records_.clear();
  look();
  ASSERT_EQ(last_.leaving.size(), 1U);  // an order is listed as long as it stands
  EXPECT_EQ(last_.leaving[0].connections, 0U);
  orders_.clear();
  EXPECT_TRUE(look().leaving.empty());
}

TEST_F(Drain, an_endpoint_that_is_down_is_left_where_the_service_says_so) {
  model::Service service = two_endpoints();
  service.probe = std::make_shared<const model::ProbePolicy>();
  const auto health = std::make_shared<const model::ServiceHealth>(model::ServiceHealth{
      service.frontend, {{.address = support::address(kFirst), .verdict = model::Verdict::kDown}}});
  connect(kFirst, 1);
  set(service, health);
  pass(seconds(1000));
  EXPECT_EQ(due(), Cookies{});
  service.drain.on_down = model::OnDown::kReset;
  service.drain.reset_after = seconds(10);
  set(service, health);
  EXPECT_EQ(due(), Cookies{});
  pass(seconds(9));
  set(service);  // up again, for a moment
  due();
  set(service, health);
  due();
  pass(seconds(9));
  EXPECT_EQ(due(), Cookies{});
  pass(seconds(1));
  EXPECT_EQ(due(), Cookies{1});
  EXPECT_EQ(last_.due[0].reason, DrainReason::kDown);
}

TEST_F(Drain, what_ended_is_not_due_but_a_refused_udp_socket_keeps_its_peer) {
  for (const std::uint8_t protocol : std::initializer_list<std::uint8_t>{6, 17}) {
    model::Service service = two_endpoints();
    service.frontend.protocol = static_cast<model::Protocol>(protocol);
    service.drain.timeout = seconds(0);
    service.endpoints.clear();
    set(service);
    records_.clear();
    connect(kFirst, 1, protocol).outcome = MESH_REFUSED;
    connect(kFirst, 2, protocol).outcome = MESH_KILLED;
    EXPECT_EQ(due(), protocol == 17 ? Cookies{1} : Cookies{});
  }
}

TEST_F(Drain, what_was_reset_is_not_due_again_and_what_failed_ever_more_seldom) {
  model::Service service = two_endpoints();
  service.drain.timeout = seconds(0);
  service.endpoints.clear();
  set(service);
  connect(kFirst, 1);
  connect(kFirst, 2);
  ASSERT_EQ(due(), (Cookies{1, 2}));
  const DrainPlanner::Look first = last_;
  planner_.tried(first.due[0], DrainPlanner::Attempt::kReset, now_);
  planner_.tried(first.due[1], DrainPlanner::Attempt::kFailed, now_);
  EXPECT_EQ(due(), Cookies{});
  EXPECT_EQ(last_.leaving.at(0).connections, 1U);
  EXPECT_EQ(last_.leaving.at(0).reset, 1U);
  base::Duration waited{};
  for (int i = 0; i < 12; ++i) {
    while (due().empty()) {
      pass(seconds(1));
      waited += seconds(1);
    }
    EXPECT_LE(waited, DrainPlanner::kBackoffMax);
    planner_.tried(last_.due.at(0), DrainPlanner::Attempt::kFailed, now_);
    if (i == 11) EXPECT_EQ(waited, DrainPlanner::kBackoffMax);
    waited = {};
  }
}

TEST_F(Drain, connections_end_at_their_own_age) {
  base::Duration least = base::Duration::max();
  base::Duration most{};
  for (std::uint64_t cookie = 1; cookie <= 1000; ++cookie) {
    const base::Duration limit = DrainPlanner::age_limit(cookie, seconds(100));
    least = std::min(least, limit);
    most = std::max(most, limit);
    EXPECT_EQ(limit, DrainPlanner::age_limit(cookie, seconds(100)));
  }
  EXPECT_GE(least, seconds(100));
  EXPECT_LT(least, seconds(101));
  EXPECT_GT(most, seconds(119));
  EXPECT_LE(most, seconds(120));
}

TEST_F(Drain, old_connections_end_a_few_at_a_time_the_oldest_first) {
  model::Service service = two_endpoints();
  service.drain.max_age = seconds(100);
  set(service);
  for (std::uint64_t cookie = 1; cookie <= 400; ++cookie) {
    connect(cookie % 2 == 0 ? kFirst : kSecond, cookie);
    pass(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(due(), Cookies{});
  EXPECT_EQ(last_.next, now_ + DrainPlanner::kAgedInterval);
  pass(seconds(130));
  EXPECT_EQ(due(), (Cookies{1, 2, 3, 4}));
  EXPECT_EQ(last_.due[0].reason, DrainReason::kAge);
  for (const auto& one : DrainPlanner::Look(last_).due) {
    planner_.tried(one, DrainPlanner::Attempt::kReset, now_);
    std::erase_if(records_, [&](const auto& record) { return record.cookie == one.record.cookie; });
  }
  EXPECT_EQ(due(), Cookies{});  // not in the same second
  pass(seconds(1));
  EXPECT_EQ(due(), (Cookies{5, 6, 7, 8}));
}

TEST_F(Drain, old_connections_stay_where_they_could_only_come_back) {
  model::Service service = two_endpoints();
  service.drain.max_age = seconds(10);
  service.endpoints[1].weight = 0;
  set(service);
  connect(kFirst, 1);
  connect(kSecond, 2);
  pass(seconds(100));
  EXPECT_EQ(due(), Cookies{});
}

}  // namespace
}  // namespace mesh::health
