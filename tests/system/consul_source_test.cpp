// SPDX-License-Identifier: Apache-2.0
// The Consul client against a Consul: the double, or, where MESH_E2E_CONSUL names its address, a real one (what needs
// faults on demand is then skipped).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "discovery/consul.hpp"
#include "tests/support/consul_double.hpp"
#include "tests/support/fake_feed.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using test::ConsulServer;
using testing::HasSubstr;
using Json = ConsulServer::Json;
using Said = FakeFeed::Said;

#define NEED_DOUBLE() \
  if (server_->real()) GTEST_SKIP() << "SKIPPED: a real Consul has no faults on demand"

class ConsulSourceTest : public testing::Test {
 protected:
  ConsulSourceTest() : folder_("/tmp/consul-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
    server_.emplace(ConsulServer::Where{.folder = folder_});
    settings_ = {.wait = 1s, .timeout = 500ms, .churn_interval = 50ms};
    settings_.address = server_->url();
    orders_ = server_->name("orders");
    settings_.services = {{.match = orders_}};
  }
  ~ConsulSourceTest() override {
    stop();
    server_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }

  /// Runs the client as its source does: again after an error, soon.
  void start() {
    settings_.address = settings_.address.starts_with("unix") ? settings_.address : server_->url();
    thread_ = std::thread([this] {
      ConsulRegistry registry(settings_, {.seed = 7});
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

  void add(const std::string& id, const std::string& address, const std::string& status = "passing",
           const Json& more = Json::object()) {
    server_->add(orders_, id_of(id), address, 8080, status, more);
  }
  /// The double anew, with one instance from its beginning: an empty answer would be believed.
  void restart() { server_->start(ConsulServer::with(orders_, id_of("a"), "10.0.0.1", 8080)); }
  [[nodiscard]] std::string id_of(const std::string& id) const { return orders_ + "-" + id; }

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
  void expect_orders(const std::string& expected) {
    const bool good = feed_.wait_until([&](const Said& said) { return here(said, orders_) == expected; }, 20s);
    EXPECT_TRUE(good) << "it has " << here(feed_.said(), orders_) << ", wanted " << expected << last_error();
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
    for (std::size_t i = mark.published.size(); i < feed_.said().published.size(); ++i) {
      Said one;
      one.published = {feed_.said().published[i]};
      EXPECT_EQ(here(one, orders_), "10.0.0.1 w1") << "the trouble took something away";
    }
    add("late", "10.0.0.9");
    expect_orders("10.0.0.1 w1 10.0.0.9 w1");
  }

  std::string folder_;
  std::optional<ConsulServer> server_;
  std::string orders_;
  ConsulSettings settings_;
  FakeFeed feed_{FakeFeed::Waits::kTakeTheirTime};
  std::thread thread_;
};

TEST_F(ConsulSourceTest, follows_registrations_health_weights_and_maintenance) {
  add("a", "10.0.0.1", "passing", {{"Weights", {{"Passing", 10}, {"Warning", 3}}}});
  start();
  expect_orders("10.0.0.1 w10");
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w10 10.0.0.2 w1");
  server_->set_status(id_of("a"), "warning");
  expect_orders("10.0.0.1 w3 10.0.0.2 w1");
  server_->set_status(id_of("a"), "critical");
  expect_orders("10.0.0.1 w0 10.0.0.2 w1");
  server_->set_status(id_of("a"), "passing");
  expect_orders("10.0.0.1 w10 10.0.0.2 w1");
  server_->maintain(id_of("b"), true);
  expect_orders("10.0.0.1 w10 10.0.0.2 w1 draining");
  server_->maintain("", true);
  expect_orders("10.0.0.1 w10 draining 10.0.0.2 w1 draining");
  server_->maintain("", false);
  server_->maintain(id_of("b"), false);
  expect_orders("10.0.0.1 w10 10.0.0.2 w1");
  server_->remove(id_of("a"));
  expect_orders("10.0.0.2 w1");
  server_->remove(id_of("b"));
  expect_orders("");
}

TEST_F(ConsulSourceTest, a_pattern_follows_services_that_come_and_go) {
  settings_.services = {{.match = server_->name("shop") + "-*", .tags = {"mesh"}}};
  const auto add_service = [&](const std::string& name, const std::string& tag) {
    server_->add(server_->name("shop") + "-" + name, server_->name(name), "10.1.0.1", 80, "passing", {{"Tags", {tag}}});
  };
  const auto has = [&](std::vector<std::string> names) {
    return feed_.wait_until(
        [&](const Said& said) {
          return !said.published.empty() && said.newest().size() == names.size() &&
                 std::ranges::all_of(names, [&](const std::string& name) {
                   return said.find(server_->name("shop") + "-" + name) != nullptr;
                 });
        },
        20s);
  };
  add_service("a", "mesh");
  add_service("b", "other");
  start();
  EXPECT_TRUE(has({"a"}));
  add_service("b", "mesh");
  EXPECT_TRUE(has({"a", "b"}));
  server_->remove(server_->name("a"));
  EXPECT_TRUE(has({"b"}));
}

TEST_F(ConsulSourceTest, a_server_without_changes_is_asked_again_and_what_is_known_confirmed) {
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed >= mark.confirmed + 2; }, 20s));
  EXPECT_EQ(feed_.said().published.size(), mark.published.size());
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
}

TEST_F(ConsulSourceTest, stops_at_once_while_a_query_waits) {
  settings_.wait = 60s;
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const auto before = base::steady_now();
  stop();
  EXPECT_LT(base::steady_now() - before, 1s);
}

TEST_F(ConsulSourceTest, a_killed_server_takes_nothing_away_and_recovers) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->stop();
  EXPECT_TRUE(trouble(mark, ""));
  restart();  // with small indexes again
  expect_recovery(mark);
}

TEST_F(ConsulSourceTest, a_server_that_hangs_is_noticed_and_recovers) {
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

TEST_F(ConsulSourceTest, an_older_state_is_believed_once_it_is_read_from_its_beginning) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  server_->control("PUT", "/save");
  for (int i = 0; i < 20; ++i) add("b", "10.0.0.2", "passing", {{"Meta", {{"i", std::to_string(i)}}}});
  start();
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
  server_->control("PUT", "/restore");
  expect_orders("10.0.0.1 w1");
  server_->control("PUT", "/fault", {{"kind", "reset_index"}, {"count", 1}});
  add("b", "10.0.0.2");
  expect_orders("10.0.0.1 w1 10.0.0.2 w1");
}

TEST_F(ConsulSourceTest, an_empty_server_is_honoured) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
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
class ConsulFaultTest : public ConsulSourceTest, public testing::WithParamInterface<Fault> {};

TEST_P(ConsulFaultTest, takes_nothing_away_is_named_and_passes) {
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
    All, ConsulFaultTest,
    testing::Values(
        Fault{"hang", {{"kind", "hang"}}, "nothing came for"},
        Fault{"slow", {{"kind", "slow"}, {"seconds", 20}}, "nothing came for"}, Fault{"half", {{"kind", "half"}}, ""},
        Fault{"wrong_length", {{"kind", "wrong_length"}}, ""}, Fault{"garbage", {{"kind", "garbage"}}, "not JSON"},
        Fault{"no_leader", {{"kind", "no_leader"}}, "No cluster leader"},
        Fault{"missing_index", {{"kind", "drop_header"}}, "X-Consul-Index"},
        Fault{"leader_lost", {{"kind", "contact"}, {"ms", 61000}}, "heard nothing of its leader"},
        Fault{"too_many_requests",
              {{"kind", "status"}, {"status", 429}, {"body", "slow down"}, {"headers", {{"Retry-After", "1"}}}},
              "max_connections"},
        Fault{"not_consul", {{"kind", "status"}, {"status", 404}}, "404"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(ConsulSourceTest, an_answer_cut_at_any_byte_takes_nothing_away) {
  NEED_DOUBLE();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  // Every 23rd byte of head and body; the fuzzer cuts bodies at all of them. (Before the first byte libcurl asks
  // again.)
  for (int at = 1; at < 900; at += 23) {
    const Said before = feed_.said();
    server_->fault({{"kind", "cut"}, {"at", at}, {"count", 1}});
    add("b", "10.0.0.2", "critical", {{"Meta", {{"at", std::to_string(at)}}}});  // ends the query that waits
    EXPECT_TRUE(trouble(before, "")) << at;
  }
  server_->remove(id_of("b"));
  server_->end_faults();
  expect_orders("10.0.0.1 w1");
  const Said after = feed_.said();
  for (std::size_t i = mark.published.size(); i < after.published.size(); ++i) {
    Said one;
    one.published = {after.published[i]};
    EXPECT_THAT(here(one, orders_), HasSubstr("10.0.0.1 w1"));
  }
}

TEST_F(ConsulSourceTest, a_revoked_token_is_named_and_a_new_one_in_the_file_counts) {
  NEED_DOUBLE();
  const auto write_token = [&](const std::string& token) { std::ofstream(folder_ + "/token") << token << "\n"; };
  write_token("first");
  settings_.token_file = folder_ + "/token";
  server_->control("PUT", "/token", {{"secret", "first"}, {"services", {orders_}}});
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->control("PUT", "/token", {{"secret", "first"}, {"services", nullptr}});
  EXPECT_TRUE(trouble(mark, "ACL not found"));
  EXPECT_TRUE(trouble(mark, "service:read on " + orders_ + " and node:read"));
  server_->control("PUT", "/token", {{"secret", "second"}, {"services", {orders_}}});
  write_token("second");
  expect_recovery(mark);
}

TEST_F(ConsulSourceTest, what_a_token_no_longer_sees_stays) {
  NEED_DOUBLE();
  std::ofstream(folder_ + "/token") << "one";
  settings_.token_file = folder_ + "/token";
  server_->control("PUT", "/token", {{"secret", "one"}, {"services", {orders_}}});
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->control("PUT", "/token", {{"secret", "one"}, {"services", {"other"}}});
  add("b", "10.0.0.2");
  EXPECT_TRUE(trouble(mark, "its token hides some"));
  EXPECT_EQ(here(feed_.said(), orders_), "10.0.0.1 w1");
}

TEST_F(ConsulSourceTest, an_expired_certificate_is_named_and_a_new_one_counts) {
  NEED_DOUBLE();
  server_->use_tls(std::chrono::system_clock::now() + 1h);
  server_->start();
  settings_.tls.ca_file = server_->ca_file();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->use_tls(std::chrono::system_clock::now() - 1min);
  restart();
  EXPECT_TRUE(trouble(mark, "expired")) << last_error();
  server_->use_tls(std::chrono::system_clock::now() + 1h);
  restart();
  expect_recovery(mark);
}

TEST_F(ConsulSourceTest, speaks_over_a_unix_socket) {
  NEED_DOUBLE();
  settings_.address = "unix://" + server_->socket();
  add("a", "10.0.0.1");
  start();
  expect_orders("10.0.0.1 w1");
}

/// Many services: prints how long the first sync takes, and how soon changes are published.
class ConsulScaleTest : public ConsulSourceTest {
 protected:
  static constexpr unsigned kInstances = 10;

  void measure(std::size_t services) {
    server_->control("PUT", "/load", {{"services", services}, {"instances", kInstances}, {"prefix", "big"}});
    settings_.services = {{.match = "big*"}};
    settings_.wait = 60s;
    settings_.timeout = 30s;
    settings_.churn_interval = 2s;
    const auto [cpu_before, rss_before] = used();
    const auto begun = base::steady_now();
    start();
    ASSERT_TRUE(feed_.wait_until(
        [&](const Said& said) { return !said.published.empty() && said.newest().size() == services; }, 120s))
        << last_error();
    const auto took = base::steady_now() - begun;
    const auto [cpu_after, rss_after] = used();
    const std::string name = "big" + std::to_string(services - 1);
    const double failing = seconds_until_weight(name, kInstances - 1, [&] {
      server_->control("PUT", "/touch", {{"service", name}, {"instance", 3}, {"status", "critical"}});
    });
    const double registered = seconds_until_weight(name, kInstances + 98, [&] {
      server_->control("PUT", "/weigh", {{"service", name}, {"instance", 4}, {"weight", 100}});
    });
    std::printf(
        "%zu services x %u instances: first sync %.2f s, of which the client used %.2f s of CPU, +%ld MiB; "
        "a failing check is published after %.3f s, a registration after %.3f s\n",
        services, kInstances, std::chrono::duration<double>(took).count(), cpu_after - cpu_before,
        rss_after - rss_before, failing, registered);
    const Json stats = server_->control("GET", "/stats");
    EXPECT_LE(stats["peak_connections"], settings_.max_connections);
    EXPECT_EQ(stats["refused_connections"], 0);
    EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
  }

 private:
  /// Of this process: seconds of CPU, and MiB at its largest.
  static std::pair<double, long> used() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return {static_cast<double>(usage.ru_utime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec) / 1e6,
            usage.ru_maxrss / 1024};
  }
  /// From the change until the service's endpoints have that much weight together.
  double seconds_until_weight(const std::string& name, unsigned weight, const std::function<void()>& change) {
    const auto weight_of = [&](const Said& said) {
      unsigned sum = 0;
      for (const auto& one : said.find(name)->endpoints) sum += one.weight;
      return sum;
    };
    const auto begun = base::steady_now();
    change();
    EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return weight_of(said) == weight; }, 60s)) << last_error();
    return std::chrono::duration<double>(base::steady_now() - begun).count();
  }
};

TEST_F(ConsulScaleTest, ninety_services_have_a_query_each) {
  NEED_DOUBLE();
  measure(90);
  EXPECT_TRUE(test::eventually(10s, [&] { return server_->control("GET", "/stats")["blocking"] == 91; }));
}

TEST_F(ConsulScaleTest, five_hundred_services_stay_within_the_servers_connections) {
  NEED_DOUBLE();
  server_->control("PUT", "/limit", {{"connections", 200}});
  measure(500);
  EXPECT_TRUE(test::eventually(10s, [&] { return server_->control("GET", "/stats")["blocking"] == 2; }));
}

TEST_F(ConsulScaleTest, ten_thousand_services) {
  NEED_DOUBLE();
  measure(10'000);
}

TEST_F(ConsulSourceTest, a_server_with_a_low_limit_is_not_asked_for_more) {
  NEED_DOUBLE();
  server_->control("PUT", "/load", {{"services", 60}, {"instances", 2}, {"prefix", "big"}});
  server_->control("PUT", "/limit", {{"connections", 20}});
  settings_.services = {{.match = "big*"}};
  start();
  EXPECT_TRUE(
      feed_.wait_until([](const Said& said) { return !said.published.empty() && said.newest().size() == 60; }, 60s))
      << last_error();
}

}  // namespace
}  // namespace mesh::discovery
