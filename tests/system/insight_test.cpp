// SPDX-License-Identifier: Apache-2.0
// What meshctl says about connections, against what really happened to them: live ones, ended ones, rates, history.
#include <fmt/format.h>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVip = "240.64.0.10:80";

class InsightTest : public AgentTest {
 protected:
  [[nodiscard]] std::string web(const std::string& endpoints_text) const {
    return fmt::format("services:\n  - {{name: web, address: \"{}\", probe: none, endpoints: {}}}\n", kVip,
                       endpoints_text);
  }

  /// Whether the history has an event of this kind whose endpoint and text hold these.
  bool happened(const std::string& kind, const std::string& endpoint, const std::string& text) {
    for (const Json& event : agent_->json({"history", "web", "--since", "10m"})["items"]) {
      if (event["kind"] == kind && event["endpoint"] == endpoint &&
          event["text"].get<std::string>().find(text) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
};

TEST_F(InsightTest, history_tells_endpoints_and_refusals_also_after_a_crash) {
  add_servers(2);
  start_agent({.body = web(fmt::format("[\"{}\"]", hosts_[0]->v4(7000)))});
  const auto started = [&] {
    return agent_->ctl({"history"}).text.find("1 services, 1 endpoints") != std::string::npos;
  };
  ASSERT_TRUE(eventually(5s, started));
  agent_->reconfigure(web(endpoints(7000)));
  EXPECT_TRUE(eventually(5s, [&] { return happened("endpoint_added", hosts_[1]->v4(7000), "weight 1"); }));
  agent_->reconfigure(web("[]"));
  EXPECT_TRUE(eventually(5s, [&] { return happened("endpoint_removed", hosts_[0]->v4(7000), ""); }));
  EXPECT_EQ(call(app(), Via::kTcp, kVip, 1)[0].errnum, ECONNREFUSED);
  EXPECT_TRUE(eventually(5s, [&] { return happened("refused", "", "1 connects: no usable backend"); }));
  agent_->kill();
  agent_->start_healthy();
  EXPECT_TRUE(happened("refused", "", "no usable backend"));
  const Output all = agent_->ctl({"history"});
  EXPECT_NE(all.text.find("the agent started with 1 services"), std::string::npos) << all.text;
  EXPECT_NE(all.text.find("generation "), std::string::npos) << all.text;
}

}  // namespace
}  // namespace mesh::test
