// SPDX-License-Identifier: Apache-2.0
// The Eureka client against Eureka servers: doubles, or, where MESH_E2E_EUREKA names the address of a real one
// (http://host:8761/eureka), that one (what needs faults on demand is then skipped). And a real meshd with both.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "discovery/eureka.hpp"
#include "tests/support/agent_test.hpp"
#include "tests/support/eureka_double.hpp"
#include "tests/support/fake_feed.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using test::EurekaServer;
using Json = EurekaServer::Json;
using Said = FakeFeed::Said;

#define NEED_DOUBLE() \
  if (server_->real()) GTEST_SKIP() << "SKIPPED: a real Eureka has no faults on demand"

class EurekaSourceTest : public testing::Test {
 protected:
  EurekaSourceTest() : folder_("/tmp/eureka-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
    server_.emplace(EurekaServer::Where{.folder = folder_});
    settings_.interval = server_->real() ? 5s : 100ms;
    settings_.timeout = server_->real() ? 8s : 500ms;
    settings_.services = {{.match = orders_}};
    settings_.servers = {server_->url()};
  }
  ~EurekaSourceTest() override {
    stop();
    second_.reset();
    server_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }

  /// Runs the client as its source does: again after an error, soon.
  void start() {
    if (!second_) settings_.servers = {server_->url()};
    thread_ = std::thread([this] {
      EurekaRegistry registry(settings_, {.source = "eureka", .policy = {}, .here = {}, .known = {}, .seed = 7});
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
  /// A second server with the same instances as the first one is given from now on.
  void add_second() {
    second_.emplace(EurekaServer::Where{.folder = folder_, .name = "second"});
    settings_.servers = {server_->url(), second_->url()};
  }

  void add(const std::string& id, const std::string& address, const Json& more = Json::object()) {
    server_->add(orders_, id, address, 8080, more);
    if (second_) second_->add(orders_, id, address, 8080, more);
  }

  /// "10.0.0.1 w1 10.0.0.2 w0 draining" of the service of that name.
  static std::string here(const Said& said, const std::string& name) {
    const model::Service* const service = said.find(name);
    if (service == nullptr) return "no service";
    std::string text;
    for (const model::Endpoint& one : service->endpoints) {
      text += (text.empty() ? "" : " ") + one.address.ip.to_string() + " w" + std::to_string(one.weight) +
              (one.draining ? " draining" : "");
    }
    return text;
  }
  [[nodiscard]] std::string name() const { return name_in_mesh(orders_); }
  void expect_orders(const std::string& expected) {
    const bool good =
        feed_.wait_until([&](const Said& said) { return here(said, name()) == expected; }, server_->patience());
    EXPECT_TRUE(good) << "it has " << here(feed_.said(), name()) << ", wanted " << expected << last_error();
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
  /// Adds an instance and waits until it is seen; the others must have been there all the time.
  void expect_recovery(const Said& mark) {
    const Said now = feed_.said();
    for (std::size_t i = mark.published.size(); i < now.published.size(); ++i) {
      Said one;
      one.published = {now.published[i]};
      EXPECT_EQ(here(one, name()), "10.0.0.1 w1") << "the trouble took something away";
    }
    add("late", "10.0.0.9");
    expect_orders("10.0.0.1 w1 10.0.0.9 w1");
  }
  int asked(const std::string& path) { return server_->control("GET", "/stats").value(path, 0); }

  std::string folder_;
  std::optional<EurekaServer> server_;
  std::optional<EurekaServer> second_;
  std::string orders_ = EurekaServer::app("orders");
  EurekaSettings settings_;
  FakeFeed feed_{FakeFeed::Waits::kTakeTheirTime};
  std::thread thread_;
};

TEST_F(EurekaSourceTest, follows_registrations_statuses_and_metadata) {
  add("a", "10.0.0.1", {{"metadata", {{"meshd-weight", "10"}}}});
  start();
  expect_orders("10.0.0.1 w10");
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w10 10.0.0.2 w1");
  server_->order(orders_, "a", "OUT_OF_SERVICE");
  expect_orders("10.0.0.1 w10 draining 10.0.0.2 w1");
  server_->order(orders_, "a", "UP");
  expect_orders("10.0.0.1 w10 10.0.0.2 w1");
  add("b", "10.0.0.2", {{"status", "STARTING"}});
  expect_orders("10.0.0.1 w10 10.0.0.2 w0");
  add("b", "10.0.0.3");
  expect_orders("10.0.0.1 w10 10.0.0.3 w1");
  server_->remove(orders_, "a");
  expect_orders("10.0.0.3 w1");
  server_->remove(orders_, "b");
  expect_orders("");
}

TEST_F(EurekaSourceTest, a_pattern_follows_applications_that_come_and_go) {
  const std::string shop = EurekaServer::app("shop");
  settings_.services = {{.match = name_in_mesh(shop) + "*"}};
  const auto has = [&](std::vector<std::string> names) {
    return feed_.wait_until(
        [&](const Said& said) {
          return !said.published.empty() && said.newest().size() == names.size() &&
                 std::ranges::all_of(
                     names, [&](const std::string& one) { return said.find(name_in_mesh(shop + one)) != nullptr; });
        },
        server_->patience());
  };
  server_->add(shop + "A", "a", "10.1.0.1", 80);
  start();
  EXPECT_TRUE(has({"A"}));
  server_->add(shop + "B", "b", "10.1.0.2", 80);
  EXPECT_TRUE(has({"A", "B"}));
  server_->remove(shop + "A", "a");
  EXPECT_TRUE(has({"B"}));
}

TEST_F(EurekaSourceTest, deltas_are_asked_for_packed_and_confirm_what_is_known) {
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed >= mark.confirmed + 3; }, 60s));
  EXPECT_EQ(feed_.said().published.size(), mark.published.size());
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
  if (server_->real()) return;
  EXPECT_GE(asked("/apps/delta"), 3);
  EXPECT_GE(asked("gzip"), 4);
}

TEST_F(EurekaSourceTest, stops_at_once) {
  settings_.interval = 600s;
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const auto before = base::steady_now();
  stop();
  EXPECT_LT(base::steady_now() - before, 1s);
}

TEST_F(EurekaSourceTest, what_deltas_missed_is_found_by_the_hash_and_a_moved_address_by_reading_all) {
  NEED_DOUBLE();
  settings_.full_every = 8;
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  server_->fault({{"kind", "status"}, {"status", 503}});
  add("b", "10.0.0.2");
  server_->control("PUT", "/expire");
  server_->end_faults();
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
  server_->control("PUT", "/move", {{"app", orders_}, {"id", "b"}, {"ip", "10.0.0.7"}});
  expect_orders("10.0.0.1 w1 10.0.0.7 w1");
}

TEST_F(EurekaSourceTest, a_server_whose_deltas_are_switched_off_is_read_whole) {
  NEED_DOUBLE();
  server_->fault({{"kind", "status"}, {"status", 403}, {"path", "/apps/delta"}});
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
}

TEST_F(EurekaSourceTest, a_hash_that_never_fits_costs_whole_answers_and_nothing_else) {
  NEED_DOUBLE();
  server_->fault({{"kind", "wrong_hash"}});
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
  EXPECT_GE(asked("/apps"), 2);
}

TEST_F(EurekaSourceTest, json_of_old_servers_is_understood) {
  NEED_DOUBLE();
  server_->control("PUT", "/form", {{"legacy", true}});
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  server_->order(orders_, "a", "OUT_OF_SERVICE");
  expect_orders("10.0.0.1 w1 draining");
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w1 draining 10.0.0.2 w1");
}

TEST_F(EurekaSourceTest, the_second_server_takes_over_and_what_is_known_stays) {
  NEED_DOUBLE();
  add_second();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  for (EurekaServer* const away : {&*server_, &*second_}) {
    const Said mark = feed_.said();
    away->process().signal(SIGSTOP);
    EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed >= mark.confirmed + 10; }, 20s))
        << last_error();
    EXPECT_EQ(here(feed_.said(), name()), "10.0.0.1 w1");
    away->process().signal(SIGCONT);
  }
  EXPECT_FALSE(feed_.said().reported.empty()) << "one of them was the one that is asked";
  server_->stop();
  second_->add(orders_, "b", "10.0.0.2", 8080);
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
}

TEST_F(EurekaSourceTest, a_killed_server_takes_nothing_away_and_recovers) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->stop();
  EXPECT_TRUE(trouble(mark, ""));
  EXPECT_EQ(feed_.said().published.size(), mark.published.size());
  server_->start();
  add("a", "10.0.0.1");
  add("late", "10.0.0.9");
  expect_orders("10.0.0.1 w1 10.0.0.9 w1");
}

TEST_F(EurekaSourceTest, a_server_that_hangs_is_noticed_and_recovers) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->process().signal(SIGSTOP);
  EXPECT_TRUE(trouble(mark, "nothing came for"));
  server_->process().signal(SIGCONT);
  expect_recovery(mark);
}

TEST_F(EurekaSourceTest, an_empty_server_is_honoured_and_an_older_state_believed) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  server_->control("PUT", "/save");
  add("b", "10.0.0.2");
  start();
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
  server_->control("PUT", "/restore");
  expect_orders("10.0.0.1 w1");
  server_->control("PUT", "/clear");
  expect_orders("");
  add("a", "10.0.0.1");
  expect_orders("10.0.0.1 w1");
}

struct Fault {
  const char* name;
  Json fault;
  const char* error;  ///< Part of the text.
};
class EurekaFaultTest : public EurekaSourceTest, public testing::WithParamInterface<Fault> {};

TEST_P(EurekaFaultTest, takes_nothing_away_is_named_and_passes) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->fault(GetParam().fault);
  EXPECT_TRUE(trouble(mark, GetParam().error)) << last_error();
  server_->end_faults();
  expect_recovery(mark);
}

INSTANTIATE_TEST_SUITE_P(
    All, EurekaFaultTest,
    testing::Values(Fault{"hang", {{"kind", "hang"}}, "nothing came for"},
                    Fault{"slow", {{"kind", "slow"}, {"seconds", 20}}, "nothing came for"},
                    Fault{"half", {{"kind", "half"}}, ""}, Fault{"wrong_length", {{"kind", "wrong_length"}}, ""},
                    Fault{"garbage", {{"kind", "garbage"}}, "not JSON"},
                    Fault{"blank", {{"kind", "blank"}}, "not JSON"},
                    Fault{"unavailable",
                          {{"kind", "status"}, {"status", 503}, {"body", "busy"}, {"headers", {{"Retry-After", "1"}}}},
                          "busy"},
                    Fault{"not_eureka", {{"kind", "status"}, {"status", 404}}, "/eureka/v2"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(EurekaSourceTest, an_answer_cut_at_any_byte_takes_nothing_away) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  // Every 31st byte of head and packed body. Twice: cut within its head an answer is a blank one to libcurl, and after
  // a blank delta all is read.
  for (int at = 1; at < 500; at += 31) {
    const Said before = feed_.said();
    server_->fault({{"kind", "cut"}, {"at", at}, {"count", 2}});
    EXPECT_TRUE(trouble(before, "")) << at;
  }
  server_->end_faults();
  expect_recovery(mark);
}

TEST_F(EurekaSourceTest, a_wrong_password_is_named_and_a_new_one_in_the_file_counts) {
  NEED_DOUBLE();
  const auto write = [&](const std::string& text) { std::ofstream(folder_ + "/credentials") << text << "\n"; };
  write("mesh:first");
  settings_.credentials_file = folder_ + "/credentials";
  add("a", "10.0.0.1");
  server_->control("PUT", "/auth", {{"user", "mesh"}, {"password", "first"}});
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->control("PUT", "/auth", {{"user", "mesh"}, {"password", "second"}});
  EXPECT_TRUE(trouble(mark, "check user and password in " + settings_.credentials_file)) << last_error();
  write("no colon");
  EXPECT_TRUE(trouble(mark, "its first line is not user:password"));
  std::filesystem::remove(settings_.credentials_file);
  EXPECT_TRUE(trouble(mark, "No such file"));
  EXPECT_EQ(feed_.said().published.size(), mark.published.size());
  write("mesh:second");
  const Said after = feed_.said();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed > after.confirmed + 1; }, 20s));
  for (const base::Error& error : feed_.said().reported)
    EXPECT_FALSE(error.to_string().contains("mesh:")) << "a secret";
}

TEST_F(EurekaSourceTest, an_expired_certificate_is_named_and_a_new_one_counts) {
  NEED_DOUBLE();
  const auto serve_until = [&](std::chrono::system_clock::time_point end) {
    server_->use_tls(end);
    server_->start();
    add("a", "10.0.0.1");
  };
  serve_until(std::chrono::system_clock::now() + 1h);
  settings_.tls.ca_file = server_->ca_file();
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  serve_until(std::chrono::system_clock::now() - 1min);
  EXPECT_TRUE(trouble(mark, "expired")) << last_error();
  server_->use_tls(std::chrono::system_clock::now() + 1h);
  server_->start();
  add("a", "10.0.0.1");
  add("late", "10.0.0.9");
  expect_orders("10.0.0.1 w1 10.0.0.9 w1");
}

TEST_F(EurekaSourceTest, ten_thousand_applications_with_ten_instances_each) {
  NEED_DOUBLE();
  server_->control("PUT", "/load", {{"apps", 10'000}, {"instances", 10}});
  settings_.services = {{.match = "all"}};
  settings_.timeout = 60s;
  const auto used = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return std::pair(usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000, usage.ru_maxrss / 1024);
  };
  const auto [cpu_before, rss_before] = used();
  const auto begun = std::chrono::steady_clock::now();
  start();
  ASSERT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); }, 180s)) << last_error();
  const auto took = std::chrono::steady_clock::now() - begun;
  const auto [cpu_after, rss_after] = used();
  std::printf("10,000 applications x 10 instances: %.1f s, of which the client used %.1f s; peak of memory +%ld MiB\n",
              std::chrono::duration<double>(took).count(), static_cast<double>(cpu_after - cpu_before) / 1000,
              rss_after - rss_before);
  ASSERT_EQ(feed_.said().newest().size(), 10'000u);
  for (const model::Service& service : feed_.said().newest()) EXPECT_EQ(service.endpoints.size(), 10u);
  server_->order("APP77", "host-773:app77:8080", "OUT_OF_SERVICE");
  EXPECT_TRUE(feed_.wait_until([](const Said& said) { return said.find("app77")->endpoints[3].draining; }, 60s));
}

}  // namespace
}  // namespace mesh::discovery

namespace mesh::test {
namespace {

using std::chrono::seconds;

/// A real agent on a host of the lab; two Eureka servers on hosts of their own.
class EurekaAgentTest : public AgentTest {
 protected:
  void SetUp() override {
    if (std::getenv("MESH_E2E_EUREKA") != nullptr) GTEST_SKIP() << "SKIPPED: the lab can't reach a real Eureka";
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(3);
    for (const char* const name : {"eureka1", "eureka2"}) {
      Host& host = lab_->add_host(name);
      registries_.push_back(std::make_unique<EurekaServer>(EurekaServer::Where{
          .folder = lab_->folder(), .name = name, .address = host.v4(), .spawn = lab_->on(host, "servers")}));
    }
  }
  void TearDown() override {
    registries_.clear();
    AgentTest::TearDown();
  }

  void start(const std::string& more = "") {
    start_agent(
        {.body = fmt::format("sources:\n  - type: eureka\n    eureka:\n      servers: [\"{}\", \"{}\"]\n"
                             "      interval: 1s\n      timeout: 500ms\n      services: [orders]\n"
                             "    defaults: {{probe: {{type: tcp, interval: 500ms, timeout: 200ms, fall: 1}}}}\n"
                             "{}",
                             registries_[0]->url(), registries_[1]->url(), more)});
  }
  /// With both registries, as they tell each other.
  void add(std::size_t server) {
    for (const auto& registry : registries_) {
      registry->add("ORDERS", "web" + std::to_string(server + 1), hosts_[server]->v4(), 7000);
    }
  }
  Json source() { return agent_->json({"sources"})["items"].back(); }
  bool becomes(const std::string& state) {
    return eventually(seconds(30), [&] { return source()["state"] == state; });
  }
  std::string vip() {
    const std::string frontend = agent_->json({"services", "orders"})["items"][0]["frontend"];
    return frontend.substr(0, frontend.find('/'));
  }
  /// Who answers calls to the service's own address.
  std::map<std::string, int> answers(int calls = 30) { return tally(call(app(), Via::kTcp, vip(), calls)); }
  void expect_answers(const std::vector<std::string>& wanted) {
    const auto names = [&] {
      std::vector<std::string> found;
      for (const auto& [name, count] : answers()) found.push_back(name);
      return found;
    };
    EXPECT_TRUE(eventually(seconds(20), [&] { return names() == wanted; }))
        << ::testing::PrintToString(names()) << "\n"
        << agent_->ctl({"sources", "-o", "yaml"}).text << agent_->ctl({"endpoints", "orders"}).text;
  }

  std::vector<std::unique_ptr<EurekaServer>> registries_;
};

TEST_F(EurekaAgentTest, follows_the_registry_fails_over_and_keeps_what_it_knows_while_all_are_away) {
  add(0);
  add(1);
  start();
  ASSERT_TRUE(eventually(seconds(20), [&] { return source()["services"] == 1; })) << agent_->log();
  EXPECT_EQ(source()["type"], "eureka");
  expect_answers({"web1", "web2"});

  add(2);
  expect_answers({"web1", "web2", "web3"});
  for (const auto& registry : registries_) registry->order("ORDERS", "web1", "OUT_OF_SERVICE");
  expect_answers({"web2", "web3"});
  for (const auto& registry : registries_) registry->order("ORDERS", "web1", "UP");
  expect_answers({"web1", "web2", "web3"});

  // A dead server that the registry keeps: the probe decides.
  servers_[2]->kill();
  expect_answers({"web1", "web2"});
  for (const auto& registry : registries_) registry->remove("ORDERS", "web3");

  // Either registry may go: the other one is asked.
  registries_[0]->stop();
  EXPECT_TRUE(becomes("synced"));
  registries_[1]->remove("ORDERS", "web2");
  expect_answers({"web1"});
  registries_[1]->add("ORDERS", "web2", hosts_[1]->v4(), 7000);
  expect_answers({"web1", "web2"});

  // Both away, one dead and one that hangs.
  registries_[1]->process().signal(SIGSTOP);
  EXPECT_TRUE(becomes("stale"));
  expect_answers({"web1", "web2"});
  registries_[1]->process().signal(SIGCONT);
  EXPECT_TRUE(becomes("synced"));
  registries_[1]->fault({{"kind", "garbage"}});
  EXPECT_TRUE(becomes("stale"));
  expect_answers({"web1", "web2"});
  registries_[1]->end_faults();
  EXPECT_TRUE(becomes("synced"));
  EXPECT_TRUE(agent_->running()) << "and never was restarted";
}

TEST_F(EurekaAgentTest, honours_an_empty_answer_and_believes_an_older_state) {
  add(0);
  for (const auto& registry : registries_) registry->control("PUT", "/save");
  add(1);
  start();
  ASSERT_TRUE(eventually(seconds(20), [&] { return source()["services"] == 1; })) << agent_->log();
  expect_answers({"web1", "web2"});
  for (const auto& registry : registries_) registry->control("PUT", "/restore");
  expect_answers({"web1"});
  for (const auto& registry : registries_) registry->control("PUT", "/clear");
  EXPECT_TRUE(eventually(seconds(20), [&] { return agent_->json({"endpoints", "orders"})["items"].empty(); }));
  EXPECT_EQ(source()["state"], "synced");
  add(1);
  expect_answers({"web2"});
}

TEST_F(EurekaAgentTest, a_guard_keeps_the_endpoints_of_a_registry_that_comes_back_empty) {
  add(0);
  add(1);
  start("    min_endpoints: [{match: orders, count: 2}]\n");
  ASSERT_TRUE(eventually(seconds(20), [&] { return source()["services"] == 1; })) << agent_->log();
  expect_answers({"web1", "web2"});
  for (const auto& registry : registries_) registry->control("PUT", "/clear");
  const auto said = [&] { return source().dump().contains("orders: 0 endpoints, and min_endpoints is 2"); };
  EXPECT_TRUE(eventually(seconds(20), said)) << source().dump();
  expect_answers({"web1", "web2"});
  add(1);
  add(2);
  expect_answers({"web2", "web3"});
  EXPECT_FALSE(said()) << source().dump();
}

}  // namespace
}  // namespace mesh::test
