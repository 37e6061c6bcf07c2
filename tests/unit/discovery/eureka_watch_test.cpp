// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using base::TimePoint;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Taken = EurekaWatch::Taken;
using namespace std::chrono_literals;

const TimePoint kStart = TimePoint{} + 1h;

struct One {
  std::string id;
  std::string address;
  std::string status = "UP";
  std::string action = "ADDED";
  std::string app = "ORDERS";
};

std::string body(const std::vector<One>& instances, const std::string& hash) {
  std::string text;
  for (const One& one : instances) {
    text += (text.empty() ? "" : ",") + std::string(R"({"name":")") + one.app + R"(","instance":{"instanceId":")" +
            one.id + R"(","hostName":"h","app":")" + one.app + R"(","ipAddr":")" + one.address + R"(","status":")" +
            one.status + R"(","port":{"$":80,"@enabled":"true"},"actionType":")" + one.action + R"("}})";
  }
  return R"({"applications":{"apps__hashcode":")" + hash + R"(","application":[)" + text + "]}}";
}

class EurekaWatchTest : public testing::Test {
 protected:
  void make(std::vector<EurekaRule> rules = {{.match = "orders"}},
            std::vector<std::string> servers = {"http://a/eureka"}) {
    settings_.servers = std::move(servers);
    settings_.services = std::move(rules);
    watch_.emplace(settings_, ServicePolicy{}, 1);
    watch_->restart(now_);
  }
  base::Result<Taken> answer(const std::string& text, unsigned status = 200) {
    http::FetchResponse response;
    response.status = status;
    response.body = text;
    return watch_->answered(response, now_);
  }
  /// Takes an answer after which everything is known, at the time when it was to be asked for.
  void take(const std::vector<One>& instances, const std::string& hash) {
    now_ = std::max(now_, watch_->due());
    const auto taken = answer(body(instances, hash));
    ASSERT_TRUE(taken) << taken.error().to_string();
    EXPECT_EQ(*taken, Taken::kCurrent);
  }
  /// "10.0.0.1 10.0.0.2 w0" of each service published now, by name; "nothing new" if nothing is.
  std::string update(const std::string& name = "orders") {
    const auto services = watch_->take_update();
    if (!services) return "nothing new";
    for (const model::ServicePtr& service : *services) {
      if (service->name != name) continue;
      std::string text;
      for (const auto& one : service->endpoints) {
        text += (text.empty() ? "" : " ") + one.address.ip.to_string() + (one.weight == 0 ? " w0" : "") +
                (one.draining ? " draining" : "");
      }
      return text;
    }
    return "no service";
  }

  EurekaSettings settings_;
  TimePoint now_ = kStart;
  std::optional<EurekaWatch> watch_;
};

TEST_F(EurekaWatchTest, reads_all_then_deltas_at_its_interval) {
  make();
  EXPECT_EQ(watch_->ask().url, "http://a/eureka/apps");
  EXPECT_LE(watch_->due(), kStart);
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_EQ(update(), "10.0.0.1");
  EXPECT_EQ(watch_->ask().url, "http://a/eureka/apps/delta");
  EXPECT_TRUE(watch_->ask().delta);
  EXPECT_GE(watch_->due(), kStart + 27s);
  EXPECT_LE(watch_->due(), kStart + 33s);
}

TEST_F(EurekaWatchTest, the_interval_has_jitter) {
  make();
  std::set<base::Duration> pauses;
  for (int i = 0; i < 20; ++i) {
    take({}, "");
    pauses.insert(watch_->due() - now_);
  }
  EXPECT_GT(pauses.size(), 10U);
}

TEST_F(EurekaWatchTest, deltas_add_change_and_remove_and_may_come_twice) {
  make();
  take({{"a", "10.0.0.1"}, {"b", "10.0.0.2"}}, "UP_2_");
  EXPECT_EQ(update(), "10.0.0.1 10.0.0.2");
  for (int i = 0; i < 2; ++i) {
    take({{"c", "10.0.0.3", "STARTING"}, {"a", "10.0.0.1", "DOWN", "MODIFIED"}, {"b", "10.0.0.2", "UP", "DELETED"}},
         "DOWN_1_STARTING_1_");
    EXPECT_EQ(update(), i == 0 ? "10.0.0.1 w0 10.0.0.3 w0" : "nothing new");
  }
  take({{"a", "10.0.0.1", "OUT_OF_SERVICE", "MODIFIED"}, {"c", "10.0.0.33", "UP", "MODIFIED"}},
       "OUT_OF_SERVICE_1_UP_1_");
  EXPECT_EQ(update(), "10.0.0.1 draining 10.0.0.33");
}

TEST_F(EurekaWatchTest, a_delta_that_leaves_another_hash_is_not_believed_and_all_is_read_at_once) {
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  update();
  now_ = watch_->due();
  EXPECT_EQ(*answer(body({{"b", "10.0.0.2"}}, "UP_3_")), Taken::kUnsure);
  EXPECT_LE(watch_->due(), now_);
  EXPECT_FALSE(watch_->ask().delta);
  take({{"a", "10.0.0.1"}, {"b", "10.0.0.2"}, {"c", "10.0.0.3"}}, "UP_3_");
  EXPECT_EQ(update(), "10.0.0.1 10.0.0.2 10.0.0.3");
  EXPECT_TRUE(watch_->ask().delta);
}

TEST_F(EurekaWatchTest, the_hash_is_over_all_instances_also_those_that_nobody_wants) {
  make();
  take({{"a", "10.0.0.1"}, {"x", "10.1.0.1", "DOWN", "", "OTHER"}}, "DOWN_1_UP_1_");
  EXPECT_EQ(update("other"), "no service");
  take({{"x", "10.1.0.1", "UP", "MODIFIED", "OTHER"}}, "UP_2_");
  EXPECT_EQ(update(), "nothing new");
  take({{"x", "10.1.0.1", "UP", "DELETED", "OTHER"}}, "UP_1_");
  EXPECT_EQ(update(), "nothing new");
}

TEST_F(EurekaWatchTest, an_action_that_is_not_known_means_to_read_all) {
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_EQ(*answer(body({{"a", "10.0.0.1", "UP", "MERGED"}}, "UP_1_")), Taken::kUnsure);
  EXPECT_FALSE(watch_->ask().delta);
}

TEST_F(EurekaWatchTest, deltas_that_are_switched_off_or_blank_mean_to_read_all_each_time) {
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  const std::vector<std::pair<std::string, unsigned>> answers = {{"no delta", 403}, {"", 404}, {"", 200}, {" \n", 200}};
  for (const auto& [text, status] : answers) {
    ASSERT_TRUE(watch_->ask().delta);
    EXPECT_EQ(*answer(text, status), Taken::kUnsure) << status;
    EXPECT_FALSE(watch_->ask().delta);
    take({{"a", "10.0.0.1"}}, "UP_1_");
  }
}

TEST_F(EurekaWatchTest, an_empty_delta_changes_nothing_and_an_empty_registry_takes_all_away) {
  make({{.match = "orders"}, {.match = "p*"}});
  take({{"a", "10.0.0.1"}, {"p", "10.2.0.1", "UP", "", "PAY"}}, "UP_2_");
  update();
  take({}, "UP_2_");
  EXPECT_EQ(update(), "nothing new");
  now_ = watch_->due();
  EXPECT_EQ(*answer(body({}, "")), Taken::kUnsure) << "the hash says that all are gone, and the delta does not";
  take({}, "");
  const auto services = watch_->take_update();
  ASSERT_TRUE(services);
  ASSERT_EQ(services->size(), 1U) << "one is named by a rule, the other matched a pattern";
  EXPECT_EQ(services->front()->name, "orders");
  EXPECT_THAT(services->front()->endpoints, IsEmpty());
  take({{"p", "10.2.0.1", "UP", "DELETED", "PAY"}}, "");
  EXPECT_FALSE(watch_->take_update()) << "what is gone may be said to go again";
}

TEST_F(EurekaWatchTest, all_is_read_anew_after_some_deltas_because_the_hash_tells_no_addresses_apart) {
  settings_.full_every = 3;
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(watch_->ask().delta);
    take({}, "UP_1_");
  }
  EXPECT_FALSE(watch_->ask().delta);
  EXPECT_GT(watch_->due(), now_) << "at its time";
  update();
  take({{"a", "10.0.0.9"}}, "UP_1_");
  EXPECT_EQ(update(), "10.0.0.9");
  EXPECT_TRUE(watch_->ask().delta);
  settings_.full_every = 0;
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_FALSE(watch_->ask().delta);
}

TEST_F(EurekaWatchTest, the_next_server_is_asked_for_all_until_each_has_failed) {
  make({{.match = "orders"}}, {"http://a/eureka", "http://b/eureka", "http://c/eureka"});
  take({{"a", "10.0.0.1"}}, "UP_1_");
  const std::string first = watch_->ask().url;
  now_ = watch_->due();
  ASSERT_FALSE(answer("<html>"));
  EXPECT_TRUE(watch_->ask_another(now_));
  EXPECT_FALSE(watch_->ask().delta);
  EXPECT_LE(watch_->due(), now_);
  std::set<std::string> asked = {first.substr(0, 8), watch_->ask().url.substr(0, 8)};
  EXPECT_FALSE(answer("", 500));
  EXPECT_TRUE(watch_->ask_another(now_));
  asked.insert(watch_->ask().url.substr(0, 8));
  EXPECT_THAT(asked, ElementsAre("http://a", "http://b", "http://c"));
  EXPECT_FALSE(answer("", 500));
  EXPECT_FALSE(watch_->ask_another(now_)) << "all have failed";
  watch_->restart(now_);
  EXPECT_TRUE(watch_->ask_another(now_)) << "a new round";
  const std::string good = watch_->ask().url;
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_EQ(watch_->ask().url, good + "/delta") << "it stays with the one that answers";
}

TEST_F(EurekaWatchTest, a_restart_reads_all_and_an_unchanged_answer_is_nothing_new) {
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  update();
  watch_->restart(now_);
  EXPECT_FALSE(watch_->ask().delta);
  EXPECT_LE(watch_->due(), now_);
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_EQ(update(), "nothing new");
  watch_->restart(now_);
  take({{"a", "10.0.0.1"}, {"old", "10.0.0.8"}}, "UP_2_");
  EXPECT_EQ(update(), "10.0.0.1 10.0.0.8") << "an older state is believed";
}

TEST_F(EurekaWatchTest, refusals_say_what_to_do) {
  make();
  const auto refusal = [&](unsigned status) {
    const auto taken = answer("why", status);
    EXPECT_FALSE(taken) << status;
    return taken ? base::Error{} : taken.error();
  };
  EXPECT_EQ(refusal(401).kind, base::ErrorKind::kPermission);
  EXPECT_THAT(refusal(403).remedy, HasSubstr("credentials_file"));
  EXPECT_THAT(refusal(404).remedy, HasSubstr("/eureka/v2"));
  EXPECT_THAT(refusal(302).remedy, HasSubstr("/eureka/v2"));
  EXPECT_EQ(refusal(503).kind, base::ErrorKind::kUnavailable);
}

TEST_F(EurekaWatchTest, services_are_probed_by_connecting_unless_something_else_is_said) {
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  const auto services = watch_->take_update();
  ASSERT_TRUE(services);
  ASSERT_TRUE(services->at(0)->probe);
  EXPECT_EQ(services->at(0)->probe->type, model::ProbeType::kTcp);
  EXPECT_EQ(services->at(0)->probe->when, model::ProbeWhen::kUsed);
  EXPECT_EQ(services->at(0)->origin, "apps/ORDERS");
  settings_.default_probe = false;
  make();
  take({{"a", "10.0.0.1"}}, "UP_1_");
  EXPECT_FALSE(watch_->take_update()->at(0)->probe);
}

TEST_F(EurekaWatchTest, what_is_left_out_is_reported_once) {
  make();
  take({{"a", "web.example"}, {"b", "10.0.0.1"}}, "UP_2_");
  EXPECT_EQ(update(), "10.0.0.1");
  const auto reports = watch_->take_reports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_THAT(reports[0].message, HasSubstr("application ORDERS of Eureka: instance a: 'web.example'"));
  take({{"b", "10.0.0.2", "UP", "MODIFIED"}}, "UP_2_");
  EXPECT_THAT(watch_->take_reports(), IsEmpty());
}

}  // namespace
}  // namespace mesh::discovery
