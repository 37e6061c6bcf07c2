// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace mesh::discovery {
namespace {

using base::TimePoint;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

const TimePoint kStart = TimePoint{} + 1h;

ConsulHeaders at_index(std::uint64_t index) { return {.index = index}; }

TEST(TwoTokens, two_at_once_then_one_per_interval) {
  TwoTokens bucket;
  EXPECT_LE(bucket.next(), kStart);
  bucket.take(kStart, 10s);
  EXPECT_LE(bucket.next(), kStart);
  bucket.take(kStart, 10s);
  EXPECT_EQ(bucket.next(), kStart + 10s);
  bucket.take(kStart + 10s, 10s);
  EXPECT_EQ(bucket.next(), kStart + 20s);
  bucket.take(kStart + 100s, 10s);
  EXPECT_LE(bucket.next(), kStart + 100s) << "full again after a pause";
}

TEST(ConsulHeaders, are_read_as_consul_writes_them) {
  const auto headers = read_consul_headers({{"x-consul-index", "18446744073709551615"},
                                            {"X-Consul-Knownleader", "false"},
                                            {"X-Consul-LastContact", "1500"},
                                            {"X-Consul-Results-Filtered-By-ACLs", "true"}});
  EXPECT_EQ(headers.index, UINT64_MAX);
  EXPECT_FALSE(headers.known_leader);
  EXPECT_EQ(headers.last_contact, 1500ms);
  EXPECT_TRUE(headers.filtered);
  EXPECT_FALSE(read_consul_headers({{"X-Consul-Index", "-1"}}).index);
  EXPECT_FALSE(read_consul_headers({{"X-Consul-Index", "1e9"}}).index);
  EXPECT_FALSE(read_consul_headers({}).index);
}

TEST(ConsulQuery, follows_the_index) {
  ConsulQuery query;
  EXPECT_EQ(query.index(), 0U);
  EXPECT_EQ(*query.take(at_index(7), {}, kStart), ConsulQuery::Change::kFirst);
  EXPECT_EQ(query.index(), 7U);
  EXPECT_EQ(*query.take(at_index(7), {}, kStart), ConsulQuery::Change::kNone);
  EXPECT_EQ(*query.take(at_index(9), {}, kStart), ConsulQuery::Change::kMoved);
  EXPECT_EQ(query.index(), 9U);
}

TEST(ConsulQuery, an_index_that_goes_back_means_a_plain_read) {
  ConsulQuery query;
  ASSERT_TRUE(query.take(at_index(100), {}, kStart));
  EXPECT_EQ(*query.take(at_index(40), {}, kStart), ConsulQuery::Change::kMoved);
  EXPECT_EQ(query.index(), 0U);
  EXPECT_EQ(*query.take(at_index(40), {}, kStart), ConsulQuery::Change::kFirst);
  EXPECT_EQ(query.index(), 40U);
}

TEST(ConsulQuery, index_zero_is_asked_for_as_one_so_that_the_server_waits) {
  ConsulQuery query;
  ASSERT_TRUE(query.take(at_index(0), {}, kStart));
  EXPECT_EQ(query.index(), 1U);
}

TEST(ConsulQuery, an_answer_without_an_index_is_an_error) {
  ConsulQuery query;
  const auto taken = query.take({}, {}, kStart);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message, HasSubstr("X-Consul-Index"));
}

TEST(ConsulQuery, an_answer_of_a_server_that_lost_its_leader_long_ago_is_refused) {
  ConsulQuery query;
  const ConsulSettings settings{.max_contact_age = 60s};
  EXPECT_TRUE(query.take({.index = 5, .last_contact = 60s}, settings, kStart));
  EXPECT_FALSE(query.take({.index = 5, .last_contact = 61s}, settings, kStart));
  EXPECT_FALSE(query.take({.index = 4, .known_leader = false}, settings, kStart))
      << "older, and no leader to confirm it";
  EXPECT_EQ(query.index(), 5U);
  ConsulSettings leader = settings;
  leader.consistency = ConsulConsistency::kDefault;
  EXPECT_TRUE(query.take({.index = 6, .last_contact = 61s}, leader, kStart));
}

TEST(ConsulQuery, what_changes_all_the_time_is_asked_for_at_a_pace) {
  ConsulQuery query;
  const ConsulSettings settings{.churn_interval = 10s};
  ASSERT_TRUE(query.take(at_index(1), settings, kStart));
  ASSERT_TRUE(query.take(at_index(2), settings, kStart));
  EXPECT_LE(query.not_before(), kStart);
  ASSERT_TRUE(query.take(at_index(3), settings, kStart));
  EXPECT_EQ(query.not_before(), kStart + 10s);
}

TEST(ConsulConnections, are_halved_by_a_refusal_and_come_back_slowly) {
  ConsulConnections connections(100);
  EXPECT_FALSE(connections.look(kStart));
  EXPECT_EQ(connections.due(), TimePoint::max()) << "there is nothing to win";
  connections.refused(kStart);
  EXPECT_EQ(connections.count(), 50U);
  EXPECT_FALSE(connections.look(kStart + 5min - 1ns));
  TimePoint now = kStart;
  for (const unsigned count : {60U, 70U, 80U, 90U, 100U}) {
    now += 5min;
    EXPECT_EQ(connections.due(), now);
    EXPECT_TRUE(connections.look(now));
    EXPECT_EQ(connections.count(), count);
  }
  EXPECT_EQ(connections.due(), TimePoint::max());
  EXPECT_FALSE(connections.look(now + 1h));
}

TEST(ConsulConnections, each_refusal_makes_the_next_try_later_up_to_a_limit) {
  ConsulConnections connections(100);
  TimePoint now = kStart;
  for (const auto rest : {5min, 10min, 20min, 40min, 80min, 160min, 160min}) {
    connections.refused(now);
    EXPECT_EQ(connections.due(), now + rest);
    now += 1s;
  }
  EXPECT_EQ(connections.count(), ConsulConnections::kFewest);
}

TEST(ConsulConnections, a_small_number_comes_back_too) {
  ConsulConnections connections(8);
  connections.refused(kStart);
  EXPECT_EQ(connections.count(), 4U);
  EXPECT_TRUE(connections.look(kStart + 5min));
  EXPECT_EQ(connections.count(), 5U);
}

/// A Consul that answers when the test says so: what is asked, by target, and the answers.
class WatchTest : public testing::Test {
 protected:
  void make(std::vector<ConsulRule> rules, unsigned connections = 100) {
    watch_.emplace(
        ConsulSettings{.churn_interval = churn_, .max_connections = connections, .services = std::move(rules)},
        ConsulMapper(ServicePolicy{}), 1);
    watch_->restart();
    step();
  }
  void step() {
    ConsulWatch::Step step = watch_->step(now_);
    for (const auto id : step.cancel) std::erase_if(open_, [&](const auto& one) { return one.second.id == id; });
    for (auto& ask : step.start) {
      EXPECT_TRUE(open_.emplace(ask.target, ask).second) << ask.target << " is asked twice";
    }
  }
  /// The target of the open question that begins so; fails if there is none.
  std::string open(const std::string& start) {
    const auto found = std::ranges::find_if(open_, [&](const auto& one) { return one.first.starts_with(start); });
    if (found == open_.end()) {
      ADD_FAILURE() << start << " is not asked";
      return {};
    }
    return found->first;
  }
  [[nodiscard]] std::size_t open_count(const std::string& start) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(open_, [&](const auto& one) { return one.first.starts_with(start); }));
  }
  base::Result<void> answer(const std::string& start, http::FetchResponse response) {
    const std::string target = open(start);
    const auto found = open_.find(target);
    if (found == open_.end()) return {};
    const auto id = found->second.id;
    open_.erase(found);
    auto result = watch_->answered(id, response, now_);
    step();
    return result;
  }
  void good(const std::string& start, std::uint64_t index, std::string body, bool filtered = false) {
    http::FetchResponse response{.status = 200, .headers = {{"X-Consul-Index", std::to_string(index)}}, .body = body};
    if (filtered) response.headers.emplace_back("X-Consul-Results-Filtered-By-ACLs", "true");
    const auto result = answer(start, response);
    EXPECT_TRUE(result) << result.error().to_string();
  }
  void service(const std::string& name, std::uint64_t index, const std::vector<std::string>& addresses,
               bool filtered = false) {
    good("/v1/health/service/" + name + "?", index, health(addresses), filtered);
  }
  static std::string health(const std::vector<std::string>& addresses, const std::string& node = "n1") {
    std::string body;
    for (const std::string& address : addresses) {
      body += std::string(body.empty() ? "" : ",") + R"({"Node":{"Node":")" + node + R"("},"Service":{"ID":")" +
              address + R"(","Address":")" + address + R"(","Port":80}})";
    }
    return "[" + body + "]";
  }
  static std::string catalog(const std::vector<std::string>& names) {
    std::string body;
    for (const std::string& name : names) body += (body.empty() ? "\"" : ",\"") + name + R"(":[])";
    return "{" + body + "}";
  }
  /// "orders 10.0.0.1 10.0.0.2" for each service of the update; empty: no update.
  std::vector<std::string> update() {
    std::vector<std::string> lines;
    const auto services = watch_->take_update();
    if (!services) return lines;
    lines.emplace_back("update");
    for (const auto& one : *services) {
      std::string& line = lines.emplace_back(one->name);
      for (const auto& endpoint : one->endpoints) line += " " + endpoint.address.ip.to_string();
    }
    return lines;
  }

  std::optional<ConsulWatch> watch_;
  std::map<std::string, ConsulWatch::Ask> open_;
  TimePoint now_ = kStart;
  std::chrono::milliseconds churn_ = 10s;
};

TEST_F(WatchTest, named_services_are_asked_for_without_the_list_of_all) {
  make({{.match = "orders"}, {.match = "pay"}});
  EXPECT_EQ(open_.size(), 2U);
  EXPECT_EQ(open("/v1/health/service/orders"), "/v1/health/service/orders?stale");
  service("orders", 5, {"10.0.0.1"});
  EXPECT_THAT(update(), IsEmpty()) << "pay is not known yet: nothing of it may be taken away";
  service("pay", 5, {});
  EXPECT_THAT(update(), ElementsAre("update", "orders 10.0.0.1"));
  EXPECT_TRUE(watch_->is_fresh());
}

TEST_F(WatchTest, the_next_question_waits_for_a_change) {
  make({{.match = "orders"}});
  service("orders", 5, {"10.0.0.1"});
  EXPECT_EQ(open("/v1/health/service/orders"), "/v1/health/service/orders?stale&index=5&wait=60s");
  EXPECT_EQ(open_.begin()->second.no_progress, 10s + 60s + 3750ms);
  update();
  service("orders", 5, {"10.0.0.1"});
  EXPECT_THAT(update(), IsEmpty());
  now_ += 60s;
  step();
  service("orders", 8, {"10.0.0.1"});
  EXPECT_THAT(update(), IsEmpty()) << "the index moved, the content did not";
  now_ += 60s;
  step();
  service("orders", 9, {"10.0.0.2"});
  EXPECT_THAT(update(), ElementsAre("update", "orders 10.0.0.2"));
}

TEST_F(WatchTest, of_services_with_one_name_none_is_exchanged) {
  make({{.match = "orders"}, {.match = "eu", .name = "pay"}, {.match = "us", .name = "pay"}});
  service("orders", 5, {"10.0.0.1"});
  service("eu", 5, {"10.0.0.2"});
  service("us", 5, {"10.0.0.3"});
  update();
  service("orders", 6, {"10.0.0.4"});
  EXPECT_EQ(watch_->take_exchanged().size(), 1U);
  service("us", 6, {"10.0.0.5"});
  EXPECT_THAT(watch_->take_exchanged(), IsEmpty()) << "which of the two it is for could not be told";
  EXPECT_THAT(update(), ElementsAre("update", "pay 10.0.0.2", "orders 10.0.0.4", "pay 10.0.0.5"));
}

TEST_F(WatchTest, a_pattern_follows_the_list_of_services) {
  make({{.match = "pay-*"}});
  EXPECT_EQ(open_.size(), 1U);
  good("/v1/catalog/services", 5, catalog({"pay-a", "pay-b", "other"}));
  service("pay-a", 5, {"10.0.0.1"});
  EXPECT_THAT(update(), IsEmpty());
  service("pay-b", 5, {"10.0.0.2"});
  EXPECT_THAT(update(), ElementsAre("update", "pay-a 10.0.0.1", "pay-b 10.0.0.2"));
  good("/v1/catalog/services", 6, catalog({"pay-b"}));
  EXPECT_THAT(update(), ElementsAre("update", "pay-b 10.0.0.2"));
  EXPECT_EQ(open_count("/v1/health/service/pay-a"), 0U) << "its question is given up";
}

TEST_F(WatchTest, an_empty_answer_is_honoured) {
  make({{.match = "orders"}});
  service("orders", 5, {"10.0.0.1"});
  update();
  service("orders", 6, {});
  EXPECT_THAT(update(), ElementsAre("update", "orders"));
}

TEST_F(WatchTest, what_a_token_hides_is_not_gone) {
  make({{.match = "pay-*"}});
  good("/v1/catalog/services", 5, catalog({"pay-a", "pay-b"}));
  service("pay-a", 5, {"10.0.0.1"});
  service("pay-b", 5, {"10.0.0.2", "10.0.0.3"});
  update();
  good("/v1/catalog/services", 6, catalog({}), true);
  EXPECT_THAT(update(), IsEmpty());
  service("pay-b", 7, {"10.0.0.3"}, true);
  EXPECT_THAT(update(), IsEmpty());
  EXPECT_FALSE(watch_->is_fresh());
  const auto reports = watch_->take_reports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kind, base::ErrorKind::kPermission);
  EXPECT_THAT(reports[0].remedy, HasSubstr("service:read on pay-b"));
  // Its own answer is whole and empty: it is gone.
  now_ += 1min;
  step();
  service("pay-a", 8, {});
  EXPECT_THAT(update(), ElementsAre("update", "pay-b 10.0.0.2 10.0.0.3"));
  service("pay-b", 9, {"10.0.0.3"});
  EXPECT_THAT(update(), ElementsAre("update", "pay-b 10.0.0.3"));
  EXPECT_TRUE(watch_->is_fresh());
}

TEST_F(WatchTest, what_a_token_hides_from_the_start_stays_as_in_the_last_run) {
  model::Service last;
  last.name = "pay-a";
  last.frontend.address = *base::SocketAddress::parse("240.64.9.9:80");
  last.endpoints = {{.address = *base::SocketAddress::parse("10.0.0.1:80")}};
  const std::vector known = {std::make_shared<const model::Service>(last)};
  watch_.emplace(ConsulSettings{.services = {{.match = "pay-*"}}}, ConsulMapper(ServicePolicy{}, known), 1);
  watch_->restart();
  step();
  good("/v1/catalog/services", 5, catalog({}), true);
  service("pay-a", 5, {}, true);
  EXPECT_THAT(update(), ElementsAre("update", "pay-a 10.0.0.1"));
  EXPECT_FALSE(watch_->is_fresh());
  now_ += 1min;
  step();
  service("pay-a", 6, {"10.0.0.2"});
  EXPECT_THAT(update(), ElementsAre("update", "pay-a 10.0.0.2"));
  EXPECT_TRUE(watch_->is_fresh());
}

TEST_F(WatchTest, a_service_whose_answer_can_not_be_read_holds_up_the_others_for_three_tries) {
  make({{.match = "orders"}, {.match = "pay"}});
  service("orders", 5, {"10.0.0.1"});
  for (unsigned i = 0; i < ConsulWatch::kTriesOfContent; ++i) {
    EXPECT_THAT(update(), IsEmpty());
    good("/v1/health/service/pay", 5, "<html>");
    now_ = std::max(now_, watch_->wake_at());
    step();
  }
  EXPECT_THAT(update(), ElementsAre("update", "orders 10.0.0.1"));
  EXPECT_FALSE(watch_->is_fresh());
  EXPECT_THAT(watch_->trouble().message, HasSubstr("service pay"));
  EXPECT_EQ(open("/v1/health/service/pay"), "/v1/health/service/pay?stale") << "a plain read again";
  service("pay", 6, {"10.0.0.2"});
  EXPECT_TRUE(watch_->is_fresh());
  EXPECT_THAT(update(), ElementsAre("update", "orders 10.0.0.1", "pay 10.0.0.2"));
}

TEST_F(WatchTest, refusals_name_what_is_missing) {
  make({{.match = "orders"}});
  const auto refused = answer("/v1/health/service/orders", {.status = 403, .headers = {}, .body = "ACL not found"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, base::ErrorKind::kPermission);
  EXPECT_THAT(refused.error().to_string(), HasSubstr("ACL not found"));
  EXPECT_THAT(refused.error().remedy, HasSubstr("service:read on orders and node:read"));
}

TEST_F(WatchTest, a_server_that_refuses_connections_gets_half_as_many) {
  std::vector<ConsulRule> rules;
  for (int i = 0; i < 60; ++i) rules.push_back({.match = "s" + std::to_string(i)});
  make(rules);
  EXPECT_EQ(open_.size(), 60U);
  ASSERT_FALSE(answer("/v1/health/service/s3?", {.status = 429, .headers = {}, .body = "too many"}));
  open_.clear();
  watch_->restart();
  step();
  EXPECT_TRUE(watch_->shares_connections());
  EXPECT_LE(open_.size(), 50U);
}

TEST_F(WatchTest, when_there_are_connections_for_all_again_each_service_has_its_own_query) {
  std::vector<ConsulRule> rules;
  for (int i = 0; i < 60; ++i) rules.push_back({.match = "s" + std::to_string(i)});
  make(rules);
  ASSERT_FALSE(answer("/v1/health/service/s3?", {.status = 429, .headers = {}, .body = "too many"}));
  open_.clear();
  watch_->restart();
  step();
  ASSERT_TRUE(watch_->shares_connections());
  EXPECT_LE(watch_->wake_at(), kStart + ConsulConnections::kFirstRest);
  now_ += ConsulConnections::kFirstRest;
  step();
  EXPECT_FALSE(watch_->shares_connections());
  EXPECT_EQ(open_count("/v1/health/service/"), 60U);
}

TEST_F(WatchTest, after_a_restart_nothing_is_taken_away_before_its_answer) {
  make({{.match = "orders"}, {.match = "pay"}});
  service("orders", 5, {"10.0.0.1"});
  service("pay", 5, {"10.0.0.2"});
  update();
  open_.clear();
  watch_->restart();
  step();
  EXPECT_EQ(open("/v1/health/service/orders"), "/v1/health/service/orders?stale");
  EXPECT_FALSE(watch_->is_fresh());
  service("orders", 2, {});
  EXPECT_THAT(update(), IsEmpty());
  service("pay", 2, {"10.0.0.2"});
  EXPECT_THAT(update(), ElementsAre("update", "orders", "pay 10.0.0.2"));
}

TEST_F(WatchTest, settings_are_said_in_each_question) {
  watch_.emplace(ConsulSettings{.datacenter = "dc 2",
                                .name_space = "shop",
                                .partition = "p",
                                .peer = "other",
                                .consistency = ConsulConsistency::kConsistent,
                                .services = {{.match = "a/b"}}},
                 ConsulMapper(ServicePolicy{}), 1);
  watch_->restart();
  step();
  EXPECT_EQ(open("/v1"), "/v1/health/service/a%2Fb?consistent&dc=dc%202&ns=shop&partition=p&peer=other");
}

/// More services than connections: signals and a pool.
class SharedWatchTest : public WatchTest {
 protected:
  static constexpr unsigned kConnections = 8;
  void load(int count) {
    make({{.match = std::string(kMatchAll)}}, kConnections);
    for (int i = 0; i < count; ++i) names_.push_back("s" + std::to_string(i));
    good("/v1/catalog/services", 5, catalog(names_));
    good("/v1/health/state/any", 5, "[]");
    answer_all(5);
  }
  std::set<std::string> answer_all(std::uint64_t index) {
    std::set<std::string> asked;
    while (open_count("/v1/health/service/") > 0) {
      EXPECT_LE(open_.size(), kConnections);
      const std::string target = open("/v1/health/service/");
      asked.insert(target.substr(19, target.find('?') - 19));
      good(target, index, health({"10.0.0.1"}, "node-of-" + target.substr(19, target.find('?') - 19)));
    }
    return asked;
  }
  static std::string failing(const std::string& node, const std::string& service) {
    return R"({"Node":")" + node + R"(","CheckID":"c","Status":"critical","ServiceName":")" + service + R"("})";
  }
  std::vector<std::string> names_;
};

TEST_F(SharedWatchTest, stays_within_the_connections_and_knows_all) {
  load(50);
  EXPECT_TRUE(watch_->shares_connections());
  EXPECT_EQ(update().size(), 51U);
  EXPECT_TRUE(watch_->is_fresh());
  EXPECT_EQ(open_.size(), 2U) << "only the signals wait";
}

TEST_F(SharedWatchTest, failing_checks_are_followed_at_once_and_alone) {
  load(50);
  good("/v1/health/state/any", 6, "[" + failing("n1", "s7") + "]");
  EXPECT_THAT(answer_all(6), ElementsAre("s7"));
  now_ += 1min;
  step();
  good("/v1/health/state/any", 7, "[]");
  EXPECT_THAT(answer_all(7), ElementsAre("s7")) << "it ceased to fail";
}

TEST_F(SharedWatchTest, a_failing_node_concerns_the_services_it_runs) {
  load(50);
  good("/v1/health/state/any", 6, "[" + failing("node-of-s9", "") + "," + failing("stranger", "") + "]");
  EXPECT_THAT(answer_all(6), ElementsAre("s9"));
}

TEST_F(SharedWatchTest, a_registration_makes_all_be_read_at_a_pace) {
  churn_ = 0s;
  load(50);
  good("/v1/catalog/services", 6, catalog(names_));
  EXPECT_EQ(answer_all(6).size(), 50U);
  good("/v1/catalog/services", 7, catalog(names_));
  EXPECT_EQ(answer_all(7).size(), 50U);
  good("/v1/catalog/services", 8, catalog(names_));
  EXPECT_THAT(answer_all(8), IsEmpty()) << "twice in a short time is enough";
  EXPECT_EQ(watch_->wake_at(), kStart + 50 * 1000ms / ConsulWatch::kReadsPerSecond);
  now_ = watch_->wake_at();
  step();
  EXPECT_EQ(answer_all(8).size(), 50U);
}

TEST_F(SharedWatchTest, all_are_read_now_and_then_because_nodes_change_without_a_sign) {
  load(20);
  now_ += ConsulWatch::kReadAllEvery + 31s;
  step();
  EXPECT_EQ(answer_all(5).size(), 20U);
}

TEST_F(SharedWatchTest, a_change_while_a_service_is_read_is_read_again) {
  load(20);
  good("/v1/health/state/any", 6, "[" + failing("n1", "s7") + "]");
  open("/v1/health/service/s7");
  now_ += 1min;
  step();
  good("/v1/health/state/any", 7, "[]");
  service("s7", 6, {"10.0.0.9"});
  EXPECT_EQ(open_count("/v1/health/service/s7"), 1U);
}

TEST_F(SharedWatchTest, with_fewer_services_each_has_its_own_question_again) {
  load(50);
  good("/v1/catalog/services", 6, catalog({"s1", "s2"}));
  EXPECT_FALSE(watch_->shares_connections());
  EXPECT_EQ(open_count("/v1/health/state"), 0U);
  EXPECT_THAT(open("/v1/health/service/s1"), HasSubstr("index="));
  EXPECT_EQ(update().size(), 3U);
  now_ += 1min;
  step();
  good("/v1/catalog/services", 7, catalog(names_));
  EXPECT_TRUE(watch_->shares_connections());
  good("/v1/health/state/any", 7, "[]");
  EXPECT_EQ(answer_all(7).size(), 50U);
}

}  // namespace
}  // namespace mesh::discovery
