// SPDX-License-Identifier: Apache-2.0
// The real agent with a Consul source: what applications experience while Consul changes, fails and comes back.
#include <fmt/format.h>
#include <signal.h>

#include <filesystem>

#include "tests/support/agent_test.hpp"
#include "tests/support/consul_double.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";

class ConsulAgentTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (IsSkipped()) return;
    if (std::getenv("MESH_E2E_CONSUL") != nullptr) {
      GTEST_SKIP() << "SKIPPED: the lab can't reach a Consul outside; ConsulSourceTest can";
    }
    ::signal(SIGPIPE, SIG_IGN);
    add_servers(2);
    Host& registry = lab_->add_host("registry");
    const std::filesystem::path folder = lab_->folder() / "consul";
    std::filesystem::create_directory(folder);
    consul_.emplace(
        ConsulServer::Where{.folder = folder, .address = registry.v4(), .spawn = lab_->on(registry, "others")});
  }
  void TearDown() override {
    consul_.reset();
    AgentTest::TearDown();
  }

  void add(int server) {
    const Host& host = *hosts_.at(static_cast<std::size_t>(server - 1));
    consul_->add("orders", host.name(), host.v4(), 7000);
  }
  void start_with(const std::string& services) {
    start_agent({.body = fmt::format("sources:\n  - type: consul\n    consul:\n      address: {}\n      wait: 1s\n"
                                     "      timeout: 500ms\n      churn_interval: 50ms\n      services: {}\n",
                                     consul_->url(), services)});
  }
  std::string backend(const std::string& address) {
    const Call made = call(app(), Via::kTcp, address, 1)[0];
    return made.errnum == 0 ? made.backend : ::strerrorname_np(made.errnum);
  }
  std::map<std::string, int> answers() { return tally(call(app(), Via::kTcp, kVip, 20)); }
  bool only(const std::string& name) {
    return eventually(seconds(10), [&] {
      const auto found = answers();
      return found.size() == 1 && found.begin()->first == name;
    });
  }
  Json source() {
    for (const Json& one : agent_->json({"sources"})["items"]) {
      if (one["name"] == "consul") return one;
    }
    return {};
  }
  bool becomes(const std::string& state) {
    return eventually(seconds(15), [&] { return source().value("state", "") == state; });
  }

  std::optional<ConsulServer> consul_;
};

TEST_F(ConsulAgentTest, traffic_goes_on_while_consul_changes_fails_and_comes_back) {
  add(1);
  start_with("[{match: orders, address: 240.64.0.10, port: 80}]");
  ASSERT_TRUE(only("web1"));
  EXPECT_TRUE(becomes("synced"));
  EXPECT_EQ(source()["endpoints"], 1);
  ConnectLoop loop(app(), {{Via::kTcp, kVip}});

  add(2);
  EXPECT_TRUE(eventually(seconds(10), [&] { return answers().size() == 2; })) << "update";
  consul_->set_status("web1", "critical");
  EXPECT_TRUE(only("web2")) << "failover";
  consul_->set_status("web1", "passing");
  EXPECT_TRUE(eventually(seconds(10), [&] { return answers().size() == 2; }));
  consul_->maintain("web2", true);
  EXPECT_TRUE(only("web1")) << "maintenance";

  consul_->process().signal(SIGSTOP);
  EXPECT_TRUE(becomes("stale")) << "hung";
  EXPECT_TRUE(only("web1"));
  EXPECT_FALSE(source()["error"].get<std::string>().empty());
  consul_->process().signal(SIGCONT);
  EXPECT_TRUE(becomes("synced"));

  consul_->stop();
  EXPECT_TRUE(becomes("stale")) << "killed";
  ASSERT_TRUE(loop.await_rounds(20));
  EXPECT_TRUE(only("web1"));
  consul_->start(ConsulServer::with("orders", "web2", hosts_[1]->v4(), 7000));
  EXPECT_TRUE(only("web2")) << "back, with another state";
  EXPECT_TRUE(becomes("synced"));

  const auto counts = loop.finish();
  EXPECT_GT(counts[0].attempts, 100U);
  EXPECT_EQ(counts[0].failures, 0U) << ::strerrorname_np(counts[0].first_errno);
}

TEST_F(ConsulAgentTest, a_killed_agent_starts_with_what_consul_said_last_while_consul_is_down) {
  add(1);
  start_with("[{match: orders, address: 240.64.0.10, port: 80}]");
  ASSERT_TRUE(only("web1"));
  ASSERT_TRUE(eventually(seconds(10), [&] { return std::filesystem::exists(agent_->state_folder()); }));
  consul_->stop();
  EXPECT_TRUE(becomes("stale"));
  ASSERT_EQ(agent_->terminate(), 0);
  EXPECT_EQ(backend(kVip), "web1") << "without an agent";
  agent_->start();
  EXPECT_TRUE(
      eventually(seconds(10), [&] { return agent_->ctl({"sources"}).code == 0 && source()["endpoints"] == 1; }));
  EXPECT_EQ(backend(kVip), "web1");
  consul_->start();
  add(2);
  EXPECT_TRUE(only("web2"));
}

TEST_F(ConsulAgentTest, a_service_without_an_address_gets_one_by_its_name) {
  add(1);
  start_with("[orders]");
  std::string address;
  ASSERT_TRUE(eventually(seconds(10), [&] {
    for (const Json& one : agent_->json({"services"})["items"]) {
      if (one["name"] != "orders") continue;
      const std::string frontend = one["frontend"];
      address = frontend.substr(0, frontend.find('/'));
    }
    return !address.empty();
  })) << agent_->ctl({"services"}).text;
  EXPECT_EQ(address.substr(address.rfind(':')), ":7000") << "the port of its instances";
  EXPECT_EQ(backend(address), "web1");
}

}  // namespace
}  // namespace mesh::test
