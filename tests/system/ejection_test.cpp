// SPDX-License-Identifier: Apache-2.0
// An endpoint whose connections fail is ejected without any probe, and comes back by probation; real servers and
// clients.
#include <fmt/format.h>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";

class EjectionTest : public AgentTest {
 protected:
  void start(const std::string& ejection, int port = 7000) {
    add_servers(3);
    port_ = port;
    start_agent({.body = fmt::format("services:\n  - {{name: web, address: \"{}\", balance: round_robin, ejection: {}, "
                                     "endpoints: {}}}\n",
                                     kVip, ejection, endpoints(port))});
  }
  Json first() {
    for (const Json& item : agent_->json({"endpoints", "web"})["items"]) {
      if (item["address"] == hosts_[0]->v4(port_)) return item;
    }
    return {};
  }
  std::vector<Call> connect(int count, milliseconds timeout = seconds(2)) {
    return call(app(), Via::kTcp, kVip, count, timeout);
  }
  /// Calls until the state of the first endpoint is this.
  bool await(const char* ejection, milliseconds timeout = seconds(2)) {
    return eventually(seconds(30), [&] {
      connect(6, timeout);
      return first()["ejection"] == ejection;
    });
  }
  [[nodiscard]] int log_lines(const std::string& text) const {
    int count = 0;
    const std::string log = agent_->log();
    for (auto at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++count;
    return count;
  }
  std::vector<std::string> history() {
    std::vector<std::string> texts;
    for (const Json& item : agent_->json({"history", "web"})["items"]) {
      if (item["kind"] == "ejection") texts.push_back(item["text"]);
    }
    return texts;
  }

  int port_ = 0;
};

TEST_F(EjectionTest, one_that_refuses_is_ejected_and_comes_back_by_probation) {
  start("{consecutive_failures: 3, base_time: 3s, probation_percent: 20, probation_successes: 2}");
  EXPECT_EQ(tally(connect(6)).at("web1"), 2);
  servers_[0]->kill();
  ASSERT_TRUE(await("ejected"));
  const Json out = first();
  EXPECT_EQ(out["eligibility"], "ejected");
  EXPECT_EQ(out["ejections"], 1);
  EXPECT_NE(out["standing"].get<std::string>().find("in a row failed (refused)"), std::string::npos) << out;
  EXPECT_FALSE(out["ejected_until"].get<std::string>().empty());
  EXPECT_EQ(agent_->share("web", hosts_[0]->v4(port_)), 0);
  EXPECT_EQ(tally(connect(10)), (std::map<std::string, int>{{"web2", 5}, {"web3", 5}}));
  EXPECT_NE(agent_->ctl({"endpoints", "web"}).text.find("refused"), std::string::npos);

  servers_[0]->start();
  ASSERT_TRUE(eventually(seconds(10), [&] { return first()["ejection"] == "probation"; }));
  const double share = agent_->share("web", hosts_[0]->v4(port_));
  EXPECT_GT(share, 0.05);
  EXPECT_LT(share, 0.15);  // 20 of 220
  ASSERT_TRUE(await(""));
  EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->share("web", hosts_[0]->v4(port_)) > 0.3; }));

  const auto told = history();
  ASSERT_EQ(told.size(), 3U) << fmt::format("{}", fmt::join(told, "\n"));
  EXPECT_TRUE(told[0].starts_with("ejected until")) << told[0];
  EXPECT_TRUE(told[1].starts_with("on probation with 20 %")) << told[1];
  EXPECT_TRUE(told[2].starts_with("back")) << told[2];
  EXPECT_NE(agent_->http("/metrics")
                .find("mesh_ejections_total{service=\"web\",port=\"80\",protocol=\"tcp\","
                      "reason=\"consecutive_failures\"} 1"),
            std::string::npos);
  EXPECT_EQ(log_lines("endpoint ejected"), 1);
  EXPECT_EQ(log_lines("endpoint on probation"), 1);
  EXPECT_EQ(log_lines("endpoint back"), 1);
}

TEST_F(EjectionTest, one_that_swallows_packets_is_ejected_when_its_clients_give_up) {
  start("{consecutive_failures: 3, base_time: 60s}");
  hosts_[0]->black_hole(*node_);
  ASSERT_TRUE(await("ejected", milliseconds(1300)));  // by then the first packet was repeated
  EXPECT_NE(first()["standing"].get<std::string>().find("timed out"), std::string::npos) << first();
  EXPECT_EQ(tally(connect(10)), (std::map<std::string, int>{{"web2", 5}, {"web3", 5}}));
}

TEST_F(EjectionTest, the_next_agent_puts_an_ejected_endpoint_on_probation) {
  start("{consecutive_failures: 3, base_time: 60s}");
  servers_[0]->kill();
  ASSERT_TRUE(await("ejected"));
  agent_->kill();
  EXPECT_EQ(tally(connect(10)), (std::map<std::string, int>{{"web2", 5}, {"web3", 5}})) << "the agent is dead";
  agent_->start_healthy();
  EXPECT_EQ(first()["ejection"], "probation") << first();
  EXPECT_LT(agent_->share("web", hosts_[0]->v4(port_)), 0.1);
  ASSERT_TRUE(await("ejected"));
  EXPECT_EQ(first()["ejections"], 2) << first();
}

TEST_F(EjectionTest, off_is_off) {
  start("off");
  servers_[0]->kill();
  const auto calls = tally(connect(60));
  EXPECT_EQ(calls.at("web2"), 20);
  EXPECT_EQ(first()["ejection"], "");
  EXPECT_EQ(first()["eligibility"], "eligible");
}

}  // namespace
}  // namespace mesh::test
