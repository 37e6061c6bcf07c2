// SPDX-License-Identifier: Apache-2.0
// The xDS client against a control plane in Python's gRPC, with its faults; and a real meshd that follows it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "discovery/xds.hpp"
#include "tests/support/agent_test.hpp"
#include "tests/support/fake_feed.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/xds_double.hpp"
#include "xds/library.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using test::XdsServer;
using testing::HasSubstr;
using Json = XdsServer::Json;
using Said = FakeFeed::Said;

Json locality(const std::vector<std::string>& endpoints, const Json& more = Json::object()) {
  Json one = {{"weight", 1}, {"endpoints", endpoints}};
  one.update(more);
  return one;
}
Json one_locality(const std::vector<std::string>& endpoints) { return Json::array({locality(endpoints)}); }

class XdsSourceTest : public testing::Test {
 protected:
  XdsSourceTest() : folder_("/tmp/xds-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
    settings_.services = {{.match = "orders"}, {.match = "pay"}};
    settings_.timeout = 1s;
  }
  ~XdsSourceTest() override {
    stop();
    server_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }
  void SetUp() override {
    if (const std::string why = test::python_grpc_unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
    if (const auto library = xds::library(); !library) GTEST_SKIP() << "SKIPPED: " << library.error().to_string();
    server_.emplace(XdsServer::Where{.folder = folder_});
    give("10.0.0.1");
  }

  /// The double names orders, with this endpoint.
  void give(const std::string& address) {
    server_->set_endpoints({{"orders", one_locality({address + ":8080"})}});
    server_->set_clusters({{"orders", Json::object()}});
  }
  /// Runs the client as its source does: again after an error, soon.
  void start() {
    settings_.server = server_->url();
    thread_ = std::thread([this] {
      XdsRegistry registry(settings_, {.source = "xds", .policy = {}, .here = {"z", "node-1"}, .known = {}, .seed = 7});
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

  /// "10.0.0.1 w1 t0 10.0.0.2 w0 t1 draining" of the service of that name.
  static std::string here(const Said& said, const std::string& name) {
    const model::Service* const service = said.find(name);
    if (service == nullptr) return "no service";
    std::string text;
    for (const model::Endpoint& one : service->endpoints) {
      text += (text.empty() ? "" : " ") + one.address.ip.to_string() + " w" + std::to_string(one.weight) + " t" +
              std::to_string(one.tier) + (one.draining ? " draining" : "");
    }
    return text;
  }
  void expect(const std::string& name, const std::string& expected) {
    const bool good = feed_.wait_until([&](const Said& said) { return here(said, name) == expected; }, 20s);
    EXPECT_TRUE(good) << name << " has " << here(feed_.said(), name) << ", wanted " << expected << last_error();
  }
  std::string last_error() {
    const Said said = feed_.said();
    return said.reported.empty() ? "" : "; last error: " + said.reported.back().to_string();
  }
  /// Waits for an error after `mark` of which the text has `part`.
  bool trouble(const Said& mark, const std::string& part) {
    return feed_.wait_until(
        [&](const Said& said) {
          for (std::size_t i = mark.reported.size(); i < said.reported.size(); ++i) {
            if (said.reported[i].to_string().contains(part)) return true;
          }
          return false;
        },
        20s);
  }
  /// Changes the endpoints and waits until it is seen; until then the first must have been there all the time.
  void expect_recovery(const Said& mark) {
    const Said now = feed_.said();
    for (std::size_t i = mark.published.size(); i < now.published.size(); ++i) {
      Said one;
      one.published = {now.published[i]};
      EXPECT_EQ(here(one, "orders"), "10.0.0.1 w1 t0") << "the trouble took something away";
    }
    give("10.0.0.9");
    expect("orders", "10.0.0.9 w1 t0");
  }

  std::string folder_;
  std::optional<XdsServer> server_;
  XdsSettings settings_;
  FakeFeed feed_{FakeFeed::Waits::kTakeTheirTime};
  std::thread thread_;
};

TEST_F(XdsSourceTest, follows_clusters_endpoints_localities_and_health) {
  settings_.metadata = {{"CLUSTER_ID", "c1"}};
  start();
  expect("orders", "10.0.0.1 w1 t0");
  const Json node = server_->stats()["nodes"][0];
  EXPECT_EQ(node, (Json{{"id", "node-1"}, {"cluster", "meshd"}, {"zone", "z"}, {"metadata", {{"CLUSTER_ID", "c1"}}}}));
  server_->set_endpoints(
      {{"orders", Json::array({locality({"10.0.0.1:80"}, {{"zone", "a"}, {"weight", 3}}), locality({"10.0.0.2:80"}),
                               locality({"10.0.1.1:80", "10.0.1.2:80 health=3"}, {{"priority", 1}})})}});
  expect("orders", "10.0.0.1 w3 t0 10.0.0.2 w1 t0 10.0.1.1 w1 t1 10.0.1.2 w1 t1 draining");
  server_->set_clusters({{"orders", Json::object()}, {"pay", {{"eds", "pay-eds"}}}, {"other", Json::object()}});
  server_->set_endpoints({{"pay-eds", one_locality({"10.2.0.1:80 health=2"})}});
  expect("pay", "10.2.0.1 w0 t0");
  EXPECT_EQ(server_->stats()["names"]["endpoints"], Json({"orders", "pay-eds"}));
  server_->set_clusters({{"pay", {{"static", one_locality({"10.3.0.1:80"})}}}});
  expect("pay", "10.3.0.1 w1 t0");
  expect("orders", "no service");
  EXPECT_TRUE(server_->stats()["nacks"].empty());
}

TEST_F(XdsSourceTest, an_empty_assignment_is_honoured) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  server_->set_endpoints({{"orders", Json::array()}});
  expect("orders", "");
}

TEST_F(XdsSourceTest, a_new_cluster_waits_for_its_endpoints_and_disturbs_no_other) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  server_->set_clusters({{"orders", Json::object()}, {"pay", Json::object()}});
  EXPECT_TRUE(trouble({}, "were not said in time"));
  give("10.0.0.2");
  expect("orders", "10.0.0.2 w1 t0");
  EXPECT_EQ(here(feed_.said(), "pay"), "no service");
}

TEST_F(XdsSourceTest, a_wrong_resource_is_refused_with_its_reason_and_keeps_its_last_good_state) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  const Said mark = feed_.said();
  server_->set_endpoints({{"orders", one_locality({"orders.example.com:80"})}});
  EXPECT_TRUE(trouble(mark, "'orders.example.com' is not the IP address of an endpoint")) << last_error();
  EXPECT_TRUE(test::eventually(10s, [&] { return !server_->stats()["nacks"].empty(); }));
  EXPECT_THAT(server_->stats()["nacks"].dump(), HasSubstr("'orders.example.com' is not the IP address"));
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, a_server_that_answers_refusals_with_the_same_is_slowed_down) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  const Said mark = feed_.said();
  server_->fault("nack_loop");
  server_->set_endpoints({{"orders", one_locality({"10.0.0.1:0"})}});
  EXPECT_TRUE(test::eventually(20s, [&] { return server_->stats()["nacks"].size() >= 3; }));
  EXPECT_LE(server_->stats()["nacks"].size(), 4U) << "one at once, then after 1, 2 and 4 seconds";
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, answers_that_are_garbage_change_nothing) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  for (const auto& [kind, says] : {std::pair("garbage_resource", "is no ClusterLoadAssignment"),
                                   std::pair("duplicate", "stands twice"), std::pair("wrong_type", "unasked")}) {
    const Said mark = feed_.said();
    server_->fault(kind);
    server_->set_endpoints({{"orders", one_locality({"10.6.6.6:80"})}});
    EXPECT_TRUE(trouble(mark, says)) << kind << last_error();
    EXPECT_EQ(here(feed_.said(), "orders"), "10.0.0.1 w1 t0");
    server_->end_faults();
    give("10.0.0.1");
  }
  const Said mark = feed_.said();
  server_->fault("garbage");
  server_->set_endpoints({{"orders", one_locality({"10.6.6.6:80"})}});
  EXPECT_TRUE(trouble(mark, "stream of ")) << last_error();
  EXPECT_EQ(here(feed_.said(), "orders"), "10.0.0.1 w1 t0");
  server_->end_faults();
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, a_lost_killed_or_older_server_removes_nothing_and_the_next_stream_goes_on) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  Said mark = feed_.said();
  server_->control("POST", "/drop");
  EXPECT_TRUE(trouble(mark, "ended the stream")) << last_error();
  mark = feed_.said();
  server_->stop();
  EXPECT_TRUE(trouble(mark, "gRPC status 14")) << last_error();
  EXPECT_EQ(here(feed_.said(), "orders"), "10.0.0.1 w1 t0");
  server_->begin_at_version(-100);
  server_->start();
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, streams_that_end_after_each_answer_get_on_nevertheless) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  const Said mark = feed_.said();
  server_->fault("half");
  server_->control("POST", "/drop");
  EXPECT_TRUE(trouble(mark, "ended the stream")) << last_error();
  server_->end_faults();
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, a_server_that_takes_the_stream_and_says_nothing_is_left_and_stopping_is_quick) {
  server_->fault("hang");
  start();
  EXPECT_TRUE(trouble({}, "says nothing")) << last_error();
  server_->fault("unavailable");
  EXPECT_TRUE(trouble({}, "out of order")) << last_error();
  server_->fault("hang");
  const auto begun = std::chrono::steady_clock::now();
  stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 2s);
}

TEST_F(XdsSourceTest, a_stopped_process_is_noticed_and_stopping_is_quick) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  server_->process().signal(SIGSTOP);
  const auto begun = std::chrono::steady_clock::now();
  stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 2s);
  server_->process().signal(SIGCONT);
}

TEST_F(XdsSourceTest, endpoints_that_were_known_stay_when_a_new_stream_does_not_name_them) {
  start();
  expect("orders", "10.0.0.1 w1 t0");
  const Said mark = feed_.said();
  server_->fault("silent_endpoints");
  server_->control("POST", "/drop");
  EXPECT_TRUE(trouble(mark, "endpoints of 'orders' were not said in time")) << last_error();
  server_->end_faults();
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, speaks_tls_with_a_certificate_and_a_token_and_reads_a_new_token) {
  server_->use_tls(std::chrono::system_clock::now() + 1h, true);
  server_->want_token("s3cret");
  server_->start();
  give("10.0.0.1");
  settings_.tls.ca_file = server_->file("ca.pem");
  settings_.tls.certificate = server_->file("client.pem");
  settings_.tls.key = server_->file("client-key.pem");
  settings_.token_file = server_->file("token");
  std::ofstream(settings_.token_file) << "old\n";
  start();
  EXPECT_TRUE(trouble({}, "no such token")) << last_error();
  std::ofstream(settings_.token_file) << "s3cret\n";
  expect("orders", "10.0.0.1 w1 t0");

  std::ofstream(settings_.token_file) << "newer\n";  // a change means a new stream, also while this one is good
  const Said mark = feed_.said();
  EXPECT_TRUE(trouble(mark, "no such token")) << last_error();
  EXPECT_EQ(here(feed_.said(), "orders"), "10.0.0.1 w1 t0");
  std::ofstream(settings_.token_file) << "s3cret\n";
  expect_recovery(mark);
}

TEST_F(XdsSourceTest, a_certificate_that_expired_or_is_another_s_is_refused) {
  server_->use_tls(std::chrono::system_clock::now() - 1h);
  server_->start();
  give("10.0.0.1");
  settings_.tls.ca_file = server_->file("ca.pem");
  start();
  EXPECT_TRUE(trouble({}, "gRPC status 14")) << last_error();
  server_->use_tls(std::chrono::system_clock::now() + 1h);
  server_->start();
  expect_recovery({});
}

TEST_F(XdsSourceTest, an_unverified_server_is_taken_where_that_is_wanted) {
  server_->use_tls(std::chrono::system_clock::now() - 1h);
  server_->start();
  give("10.0.0.1");
  settings_.tls.verify = false;
  start();
  expect("orders", "10.0.0.1 w1 t0");
}

TEST_F(XdsSourceTest, ten_thousand_clusters_with_ten_endpoints) {
  server_->control("PUT", "/many", {{"clusters", 10'000}, {"endpoints", 10}});
  settings_.services = {{.match = "service-*"}};
  settings_.timeout = 60s;
  const auto begun = std::chrono::steady_clock::now();
  start();
  const auto count = [](const Said& said) { return said.published.empty() ? 0 : said.newest().size(); };
  ASSERT_TRUE(feed_.wait_until([&](const Said& said) { return count(said) == 10'000; }, 60s)) << last_error();
  const auto took = std::chrono::steady_clock::now() - begun;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print("10,000 clusters x 10 endpoints: {:.1f} s until all is known, {} MiB of memory at most\n",
             std::chrono::duration<double>(took).count(), usage.ru_maxrss / 1024);
  std::size_t endpoints = 0;
  for (const model::Service& service : feed_.said().newest()) endpoints += service.endpoints.size();
  EXPECT_EQ(endpoints, 100'000U);
  server_->set_endpoints({{"service-77", one_locality({"10.99.0.1:8080"})}});
  expect("service-77", "10.99.0.1 w1 t0");
  EXPECT_TRUE(server_->stats()["nacks"].empty());
}

}  // namespace
}  // namespace mesh::discovery
