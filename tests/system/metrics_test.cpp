// SPDX-License-Identifier: Apache-2.0
// What the metrics page says of real connections.
#include <fmt/format.h>

#include <sstream>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

class MetricsTest : public AgentTest {
 protected:
  /// Value of the series that begins so; -1: there is none.
  double value(const std::string& series) {
    std::istringstream lines(agent_->http("/metrics"));
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(series)) return std::stod(line.substr(line.rfind(' ') + 1));
    }
    return -1;
  }
  static std::string of_web(const std::string& metric, const std::string& more = "}") {
    return metric + R"({service="web",port="80",protocol="tcp")" + more;
  }
};

TEST_F(MetricsTest, connections_show_by_outcome_and_survive_their_backends) {
  add_servers(2);
  const auto body = [&](const std::string& endpoints) {
    return fmt::format(
        "services:\n  - {{name: web, address: \"240.64.0.10:80\", balance: round_robin, endpoints: {}}}\n", endpoints);
  };
  const std::string refusing = fmt::format("{{address: \"{}\"}}", hosts_[1]->v4(9));
  start_agent({.more_metrics = "per_backend: true",
               .body = body(fmt::format("[{{address: \"{}\"}}, {}]", hosts_[0]->v4(7000), refusing))});
  call(app(), Via::kTcp, "240.64.0.10:80", 20);
  EXPECT_EQ(value(of_web("mesh_service_established_total")), 10);
  EXPECT_EQ(value(of_web("mesh_service_ended_total", ",outcome=\"refused\"}")), 10);
  EXPECT_EQ(value(of_web("mesh_connect_latency_seconds_count")), 10);
  EXPECT_GT(value(of_web("mesh_connect_latency_seconds_sum")), 0);
  EXPECT_GT(value(of_web("mesh_service_received_bytes_total")), 0);
  EXPECT_EQ(value(of_web("mesh_service_active_connections")), 0);
  EXPECT_EQ(value(of_web("mesh_backend_failed_total", fmt::format(",backend=\"{}\"}}", hosts_[1]->v4(9)))), 10);

  agent_->reconfigure(body(fmt::format("[{}]", refusing)));  // the backend with all the established ones goes
  ASSERT_TRUE(eventually(seconds(5), [&] { return agent_->share("web", hosts_[1]->v4(9)) == 1; }));
  call(app(), Via::kTcp, "240.64.0.10:80", 5);
  EXPECT_EQ(value(of_web("mesh_service_established_total")), 10) << "a counter never falls";
  EXPECT_EQ(value(of_web("mesh_service_ended_total", ",outcome=\"refused\"}")), 15);
}

}  // namespace
}  // namespace mesh::test
