// SPDX-License-Identifier: Apache-2.0
// The Kubernetes client against an API server: the double, or, where MESH_E2E_KUBERNETES names a kubeconfig, a real one
// (what needs faults on demand is then skipped).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "discovery/kubernetes.hpp"
#include "tests/support/fake_feed.hpp"
#include "tests/support/kubernetes_double.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using base::ErrorKind;
using test::KubernetesApi;
using testing::IsEmpty;
using Json = KubernetesApi::Json;
using Said = FakeFeed::Said;

class KubernetesSourceTest : public testing::Test {
 protected:
  KubernetesSourceTest() : folder_("/tmp/kubernetes-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
    api_.emplace(KubernetesApi::Where{.folder = folder_});
    settings_.kubeconfig = api_->kubeconfig();
    settings_.namespaces = {api_->space()};
    settings_.check_interval = 1s;
  }
  ~KubernetesSourceTest() override {
    stop();
    api_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }

  /// Runs the client as its source does: again after an error, soon.
  void start() {
    thread_ = std::thread([this] {
      KubernetesRegistry registry(settings_, {.here = {.zone = "a", .node = "n1"}, .seed = 7});
      while (!feed_.stopping()) {
        if (const auto ended = registry.run(feed_); !ended) feed_.report(ended.error());
        feed_.wait(50ms);
      }
    });
  }
  void stop() {
    feed_.stop();
    if (thread_.joinable()) thread_.join();
  }

  /// Waits until a service has these endpoints.
  void expect_backends(const std::string& name, const std::vector<std::string>& expected) {
    const bool good = feed_.wait_until([&](const Said& said) { return here(said, name) == expected; }, 45s);
    EXPECT_TRUE(good) << name << " has " << testing::PrintToString(here(feed_.said(), name)) << ", wanted "
                      << testing::PrintToString(expected) << last_error();
  }
  std::vector<std::string> here(const Said& said, const std::string& name) const {
    const model::Service* const service = said.find(name + "." + api_->space());
    if (service == nullptr) return {"no service"};
    std::vector<std::string> texts;
    for (const model::Endpoint& one : service->endpoints) texts.push_back(one.address.to_string());
    return texts;
  }
  std::string last_error() {
    const Said said = feed_.said();
    return said.reported.empty() ? "" : "; last error: " + said.reported.back().to_string();
  }
  /// Waits for one more trouble of that kind.
  bool trouble(std::size_t after, ErrorKind kind) {
    return feed_.wait_until(
        [&](const Said& said) {
          for (std::size_t i = after; i < said.reported.size(); ++i) {
            if (said.reported[i].kind == kind) return true;
          }
          return false;
        },
        20s);
  }
  /// Waits until the source is in order again: something was said after `mark` and no trouble since.
  bool fresh(const Said& mark) {
    return feed_.wait_until(
        [&](const Said& said) {
          return said.confirmed + said.published.size() > mark.confirmed + mark.published.size();
        },
        20s);
  }

  std::string folder_;
  std::optional<KubernetesApi> api_;
  KubernetesSettings settings_;
  FakeFeed feed_{FakeFeed::Waits::kTakeTheirTime};
  std::thread thread_;
};

#define NEEDS_THE_DOUBLE() \
  if (api_->real()) GTEST_SKIP() << "SKIPPED: needs faults on demand, which a real API server doesn't have"

TEST_F(KubernetesSourceTest, follows_a_service_from_its_birth_to_its_end) {
  const std::string address = api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1", "10.1.0.2"});
  start();
  expect_backends("orders", {"10.1.0.1:8080", "10.1.0.2:8080"});
  EXPECT_EQ(feed_.said().find("orders." + api_->space())->frontend.to_string(), address + ":80/tcp");
  api_->set_endpoints("orders", 8080, {"10.1.0.2", "10.1.0.3"});
  expect_backends("orders", {"10.1.0.2:8080", "10.1.0.3:8080"});
  api_->add_service("late", 81);
  expect_backends("late", {});
  api_->set_endpoints("late", 8081, {"10.1.0.9"});
  expect_backends("late", {"10.1.0.9:8081"});
  api_->remove_service("orders");
  expect_backends("orders", {"no service"});
  expect_backends("late", {"10.1.0.9:8081"});
  EXPECT_THAT(feed_.said().reported, IsEmpty()) << last_error();
}

TEST_F(KubernetesSourceTest, imports_what_is_selected) {
  settings_.selector = "mesh=on";
  api_->add_service("in", 80, {{"labels", {{"mesh", "on"}}}});
  api_->add_service("out", 80, {{"labels", {{"mesh", "off"}}}});
  api_->add_service("foreign", 80, {{"labels", {{"mesh", "on"}, {"service.kubernetes.io/service-proxy-name", "x"}}}});
  start();
  expect_backends("in", {});
  EXPECT_EQ(feed_.said().newest().size(), 1u);
}

TEST_F(KubernetesSourceTest, a_list_of_many_pages_is_whole) {
  NEEDS_THE_DOUBLE();
  api_->start({"--seed-services", "1234", "--seed-endpoints", "2"});
  settings_.namespaces.clear();
  settings_.all = true;
  start();
  ASSERT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); }, 30s)) << last_error();
  EXPECT_EQ(feed_.said().published.front().size(), 1234u) << "nothing is published before it is whole";
  for (const model::Service& service : feed_.said().newest()) EXPECT_EQ(service.endpoints.size(), 2u);
  EXPECT_EQ(api_->control("state")["requests"]["list"], 6);
}

TEST_F(KubernetesSourceTest, ten_thousand_services_with_ten_endpoints_each) {
  NEEDS_THE_DOUBLE();
  api_->start({"--seed-services", "10000", "--seed-endpoints", "10"});
  settings_.namespaces.clear();
  settings_.all = true;
  const auto used = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return std::pair(usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000, usage.ru_maxrss / 1024);
  };
  const auto [cpu_before, rss_before] = used();
  const auto begun = std::chrono::steady_clock::now();
  start();
  ASSERT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); }, 120s)) << last_error();
  const auto took = std::chrono::steady_clock::now() - begun;
  const auto [cpu_after, rss_after] = used();
  std::printf("10,000 services x 10 endpoints: %.1f s, of which the client used %.1f s; peak of memory +%ld MiB\n",
              std::chrono::duration<double>(took).count(), static_cast<double>(cpu_after - cpu_before) / 1000,
              rss_after - rss_before);
  ASSERT_EQ(feed_.said().newest().size(), 10000u);
  for (const model::Service& service : feed_.said().newest()) EXPECT_EQ(service.endpoints.size(), 10u);
}

TEST_F(KubernetesSourceTest, pages_that_expire_begin_anew) {
  NEEDS_THE_DOUBLE();
  api_->start({"--seed-services", "600", "--seed-endpoints", "1"});
  api_->set_faults({{"expire_continue", true}});
  settings_.namespaces.clear();
  settings_.all = true;
  start();
  ASSERT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); }, 30s)) << last_error();
  EXPECT_EQ(feed_.said().published.front().size(), 600u);
}

TEST_F(KubernetesSourceTest, what_was_missed_while_a_version_expired_is_seen) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->add_service("doomed", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  for (const char* const how : {"event", "status"}) {
    // Watches get 410 from now on, while things change.
    api_->set_faults({{"gone", how}});
    api_->control("close", Json::object());
    const std::string now = how == std::string("event") ? "10.1.0.7" : "10.1.0.8";
    api_->set_endpoints("orders", 8080, {now});
    expect_backends("orders", {now + ":8080"});
    if (how == std::string("event")) api_->remove_service("doomed");
    api_->set_faults(Json::object());
    expect_backends("doomed", {"no service"});
  }
  const Said mark = feed_.said();
  api_->control("compact", Json::object());
  api_->set_endpoints("orders", 8080, {"10.1.0.9"});
  expect_backends("orders", {"10.1.0.9:8080"});
  EXPECT_TRUE(fresh(mark));
}

TEST_F(KubernetesSourceTest, a_server_that_comes_back_goes_on_where_it_was) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  ASSERT_TRUE(test::eventually(5s, [&] { return api_->control("state")["watches"] == 2; }));
  const Json lists = api_->control("state")["requests"]["list"];
  api_->control("close", Json::object());
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  expect_backends("orders", {"10.1.0.2:8080"});
  EXPECT_EQ(api_->control("state")["requests"]["list"], lists) << "a watch goes on from its version, without a list";
}

TEST_F(KubernetesSourceTest, a_server_that_was_away_and_has_an_older_state_is_believed) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  const Json before = api_->control("dump");
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  api_->add_service("new", 80);
  start();
  expect_backends("orders", {"10.1.0.2:8080"});
  expect_backends("new", {});
  api_->stop();
  EXPECT_TRUE(trouble(0, ErrorKind::kUnavailable)) << last_error();
  EXPECT_EQ(here(feed_.said(), "orders"), std::vector<std::string>{"10.1.0.2:8080"}) << "nothing is taken away";
  std::ofstream(folder_ + "/dump") << before.dump();
  api_->start({"--restore", folder_ + "/dump"});
  expect_backends("orders", {"10.1.0.1:8080"});
  expect_backends("new", {"no service"});
}

TEST_F(KubernetesSourceTest, streams_cut_into_single_bytes_are_read) {
  NEEDS_THE_DOUBLE();
  api_->set_faults({{"piece", 1}});
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  expect_backends("orders", {"10.1.0.2:8080"});
  EXPECT_THAT(feed_.said().reported, IsEmpty()) << last_error();
}

TEST_F(KubernetesSourceTest, broken_answers_change_nothing_and_are_survived) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  int number = 1;
  for (const Json& faults :
       {Json{{"cut", 100}}, Json{{"cut", 0}}, Json{{"garbage", "<html>no</html>"}},
        Json{{"garbage", "{\"kind\":\"ServiceList\"}"}}, Json{{"garbage", "{}"}, {"only", "watch"}},
        Json{{"length", 1000}}, Json{{"status", 500}}, Json{{"status", 404}}, Json{{"error_event", 500}},
        Json{{"cut", 30}, {"only", "watch"}}, Json{{"garbage", "x"}, {"only", "watch"}}}) {
    const Said mark = feed_.said();
    api_->set_faults(faults);
    api_->control("compact", Json::object());
    api_->control("close", Json::object());
    api_->control("bookmark", Json::object());
    if (faults != Json{{"garbage", "{}"}, {"only", "watch"}}) {
      EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.reported.size() > mark.reported.size(); }, 20s))
          << faults;
    }
    EXPECT_EQ(here(feed_.said(), "orders"), here(mark, "orders")) << faults;
    api_->set_faults(Json::object());
    const std::string next = "10.1.0." + std::to_string(++number);
    api_->set_endpoints("orders", 8080, {next});
    expect_backends("orders", {next + ":8080"});
  }
}

TEST_F(KubernetesSourceTest, a_server_that_hangs_is_noticed_and_nothing_is_lost) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  api_->process().signal(SIGSTOP);
  EXPECT_TRUE(trouble(0, ErrorKind::kTimeout)) << last_error();
  const Said mark = feed_.said();
  EXPECT_EQ(here(mark, "orders"), std::vector<std::string>{"10.1.0.1:8080"});
  api_->process().signal(SIGCONT);
  EXPECT_TRUE(fresh(mark)) << last_error();
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  expect_backends("orders", {"10.1.0.2:8080"});
}

TEST_F(KubernetesSourceTest, silence_is_confirmed) {
  api_->add_service("orders", 80);
  start();
  expect_backends("orders", {});
  const Said mark = feed_.said();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed >= mark.confirmed + 2; }, 20s))
      << last_error();
}

TEST_F(KubernetesSourceTest, a_revoked_token_is_said_and_a_new_one_in_the_file_is_enough) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  api_->control("token", {{"token", "second"}});
  EXPECT_TRUE(trouble(0, ErrorKind::kPermission)) << last_error();
  EXPECT_EQ(here(feed_.said(), "orders"), std::vector<std::string>{"10.1.0.1:8080"});
  api_->write_token("second");
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  expect_backends("orders", {"10.1.0.2:8080"});
}

TEST_F(KubernetesSourceTest, an_expired_certificate_is_said_and_a_new_one_is_enough) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  api_->set_endpoints("orders", 8080, {"10.1.0.1"});
  start();
  expect_backends("orders", {"10.1.0.1:8080"});
  std::ofstream(folder_ + "/dump") << api_->control("dump").dump();
  api_->make_certificate(std::chrono::system_clock::now() - 1h);
  api_->start({"--restore", folder_ + "/dump"});
  EXPECT_TRUE(feed_.wait_until(
      [](const Said& said) { return !said.reported.empty() && said.reported.back().message.contains("expired"); }, 20s))
      << last_error();
  api_->make_certificate(std::chrono::system_clock::now() + 1h);
  api_->start({"--restore", folder_ + "/dump"});
  api_->set_endpoints("orders", 8080, {"10.1.0.2"});
  expect_backends("orders", {"10.1.0.2:8080"});
}

TEST_F(KubernetesSourceTest, retry_after_of_a_list_is_passed_on) {
  NEEDS_THE_DOUBLE();
  api_->set_faults({{"status", 429}, {"retry_after", 7}});
  start();
  EXPECT_TRUE(trouble(0, ErrorKind::kUnavailable)) << last_error();
  EXPECT_EQ(feed_.said().left_alone.front(), 7s);
}

TEST_F(KubernetesSourceTest, watches_that_end_at_once_are_not_hammered) {
  NEEDS_THE_DOUBLE();
  api_->add_service("orders", 80);
  start();
  expect_backends("orders", {});
  api_->set_faults({{"end_at_once", true}});
  const Json before = api_->control("state")["requests"];
  api_->control("close", Json::object());
  EXPECT_TRUE(trouble(0, ErrorKind::kUnavailable)) << last_error();
  const Json after = api_->control("state")["requests"];
  EXPECT_LT(after["watch"].get<int>() - before["watch"].get<int>(), 20);
}

TEST_F(KubernetesSourceTest, stops_at_once_whatever_it_waits_for) {
  NEEDS_THE_DOUBLE();
  api_->set_faults({{"hang", true}});
  start();
  ASSERT_TRUE(test::eventually(5s, [&] { return api_->control("state")["requests"].value("list", 0) > 0; }));
  const auto begun = std::chrono::steady_clock::now();
  stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 1s);
}

}  // namespace
}  // namespace mesh::discovery
