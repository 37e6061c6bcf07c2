// SPDX-License-Identifier: Apache-2.0
// Services from ZooKeeper: a real meshd against a real server, through its end and its return.
#include <fmt/format.h>

#include <filesystem>

#include "tests/support/agent_test.hpp"
#include "tests/support/zookeeper_server.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

class ZookeeperAgentTest : public AgentTest {
 protected:
  void SetUp() override {
    if (const std::string why = ZookeeperServer::unavailable(); !why.empty()) GTEST_SKIP() << why;
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(2);
    const Host& host = lab_->add_host("zk");
    const std::string folder = lab_->folder() / "zookeeper";
    std::filesystem::create_directories(folder);
    zookeeper_ = std::make_unique<ZookeeperServer>(
        ZookeeperServer::Where{.folder = folder, .address = host.v4(), .spawn = lab_->on(host, "servers")});
  }
  void TearDown() override {
    zookeeper_.reset();
    AgentTest::TearDown();
  }
  void add(std::size_t server) {
    zookeeper_->set("/services/orders/" + std::to_string(server),
                    fmt::format(R"({{"name":"orders","id":"{}","address":"{}","port":7000,"payload":{{}}}})", server,
                                hosts_[server]->v4()));
  }
  Json source_status() { return agent_->json({"sources"})["items"].back(); }
  std::map<std::string, int> answers(int calls = 20) {
    const std::string frontend = agent_->json({"services", "orders"})["items"][0]["frontend"];
    return tally(call(app(), Via::kTcp, frontend.substr(0, frontend.find('/')), calls));
  }

  std::unique_ptr<ZookeeperServer> zookeeper_;
};

TEST_F(ZookeeperAgentTest, connections_go_where_the_registry_says_and_go_on_without_it) {
  add(0);
  start_agent({.body = fmt::format("sources:\n  - type: zookeeper\n    zookeeper:\n      servers: [\"{}\"]\n"
                                   "      session_timeout: 2s\n      services: [orders]\n",
                                   zookeeper_->address())});
  ASSERT_TRUE(eventually(seconds(20), [&] { return agent_->ctl({"endpoints", "orders", "-o", "json"}).code == 0; }))
      << agent_->ctl({"sources", "-o", "yaml"}).text;
  EXPECT_EQ(source_status()["state"], "synced");
  EXPECT_EQ(answers().at("web1"), 20);
  add(1);
  ASSERT_TRUE(eventually(seconds(20), [&] { return agent_->json({"endpoints", "orders"})["items"].size() == 2; }));
  EXPECT_TRUE(eventually(seconds(10), [&] { return answers(40).size() == 2; }));

  zookeeper_->stop();
  EXPECT_TRUE(eventually(seconds(20), [&] { return source_status()["state"] == "stale"; }));
  const auto during = answers(40);
  EXPECT_EQ(during.count("web1") + during.count("web2"), 2U) << "what was known goes on";
  zookeeper_->start();
  EXPECT_TRUE(eventually(seconds(60), [&] { return source_status()["state"] == "synced"; }))
      << agent_->ctl({"sources", "-o", "yaml"}).text;
  zookeeper_->remove("/services/orders/0");
  EXPECT_TRUE(eventually(seconds(20), [&] {
    const auto after = answers();
    return after.contains("web2") && after.at("web2") == 20;
  }));
}

}  // namespace
}  // namespace mesh::test
