// SPDX-License-Identifier: Apache-2.0
// The real agent with xDS: what applications experience while a control plane changes, refuses, fails and comes back.
#include <fmt/format.h>
#include <signal.h>

#include <filesystem>

#include "tests/support/agent_test.hpp"
#include "tests/support/xds_double.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";

class XdsAgentTest : public AgentTest {
 protected:
  void SetUp() override {
    if (const std::string why = python_grpc_unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
    AgentTest::SetUp();
    if (IsSkipped()) return;
    ::signal(SIGPIPE, SIG_IGN);
    add_servers(2);
    Host& registry = lab_->add_host("registry");
    const std::filesystem::path folder = lab_->folder() / "xds";
    std::filesystem::create_directory(folder);
    xds_.emplace(XdsServer::Where{
        .folder = folder, .address = registry.v4(), .port = 18000, .spawn = lab_->on(registry, "others")});
    xds_->set_clusters({{"orders", Json::object()}});
  }
  void TearDown() override {
    xds_.reset();
    AgentTest::TearDown();
  }

  void start() {
    start_agent({.body = fmt::format("sources:\n  - type: xds\n    xds:\n      server: {}\n      timeout: 1s\n"
                                     "      services: [{{match: orders, address: 240.64.0.10, port: 80}}]\n",
                                     xds_->url())});
  }
  [[nodiscard]] std::string at(int server, const std::string& more = "") const {
    return hosts_.at(static_cast<std::size_t>(server - 1))->v4(7000) + more;
  }
  /// One priority after the other.
  void give(const std::vector<std::vector<std::string>>& priorities) {
    Json localities = Json::array();
    for (std::size_t i = 0; i < priorities.size(); ++i) {
      localities.push_back({{"priority", i}, {"weight", 1}, {"endpoints", priorities[i]}});
    }
    xds_->set_endpoints({{"orders", localities}});
  }
  bool only(const std::string& name) {
    return eventually(seconds(10), [&] {
      const auto found = tally(call(app(), Via::kTcp, kVip, 20));
      return found.size() == 1 && found.begin()->first == name;
    });
  }
  Json source() {
    for (const Json& one : agent_->json({"sources"})["items"]) {
      if (one["name"] == "xds") return one;
    }
    return {};
  }
  bool becomes(const std::string& state) {
    return eventually(seconds(15), [&] { return source().value("state", "") == state; });
  }

  std::optional<XdsServer> xds_;
};

TEST_F(XdsAgentTest, traffic_goes_on_while_the_control_plane_changes_refuses_fails_and_comes_back) {
  give({{at(1)}, {at(2)}});
  start();
  ASSERT_TRUE(only("web1")) << "the first priority";
  EXPECT_TRUE(becomes("synced"));
  EXPECT_EQ(source()["endpoints"], 2);
  ConnectLoop loop(app(), {{Via::kTcp, kVip}});

  give({{at(1, " health=2")}, {at(2)}});
  EXPECT_TRUE(only("web2")) << "failover";
  give({{at(1)}, {at(2)}});
  EXPECT_TRUE(only("web1")) << "and back";

  give({{"orders.example.com:80"}});
  EXPECT_TRUE(becomes("stale")) << "refused";
  EXPECT_NE(source().dump().find("is not the IP address of an endpoint"), std::string::npos) << source().dump();
  EXPECT_TRUE(only("web1"));
  give({{at(1)}, {at(2)}});
  EXPECT_TRUE(becomes("synced"));
  const Json refusal = source()["refusals"][0];
  EXPECT_EQ(refusal["what"], "endpoints");
  EXPECT_NE(refusal["why"].dump().find("endpoints of 'orders'"), std::string::npos) << refusal.dump();
  const std::string wide = agent_->ctl({"sources", "-o", "wide"}).text;
  EXPECT_NE(wide.find("REFUSED BY"), std::string::npos) << wide;

  xds_->stop();
  EXPECT_TRUE(becomes("stale")) << "killed";
  EXPECT_TRUE(only("web1"));
  ASSERT_TRUE(loop.await_rounds(20));
  const auto counts = loop.finish();
  EXPECT_GT(counts[0].attempts, 100U);
  EXPECT_EQ(counts[0].failures, 0U) << ::strerrorname_np(counts[0].first_errno);

  xds_->begin_at_version(-100);
  xds_->start();
  xds_->set_clusters({{"orders", Json::object()}});
  give({{at(2)}});
  EXPECT_TRUE(only("web2")) << "back, with an older version";
  EXPECT_TRUE(becomes("synced"));
}

}  // namespace
}  // namespace mesh::test
