// SPDX-License-Identifier: Apache-2.0
// Every table has a limit, and reaching it is an error that names it; what was in force stays in force (I6).
#include <fmt/format.h>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr int kServices = 16;  ///< Table size; id 0 is never used and the canary takes some.

class LimitsTest : public AgentTest {
 protected:
  std::string services(int count) {
    std::string text = "services:\n";
    for (int i = 0; i < count; ++i) {
      text +=
          fmt::format("  - {{name: s{0}, address: \"240.64.0.{1}:80\", endpoints: {2}}}\n", i, i + 10, endpoints(7000));
    }
    return text;
  }
};

TEST_F(LimitsTest, a_full_table_is_an_error_that_names_it_and_the_old_state_stays) {
  add_servers(1);
  start_agent({.agent_yaml = fmt::format("  limits: {{services: {}}}\n", kServices), .body = services(3)});
  agent_->reconfigure(services(2 * kServices));
  ASSERT_TRUE(eventually(seconds(5), [&] { return agent_->ctl({"status"}).code == 3; }))
      << agent_->ctl({"status"}).text;
  const std::string text = agent_->ctl({"status"}).text;
  EXPECT_NE(text.find("services"), std::string::npos) << text;
  EXPECT_NE(text.find("agent.limits.services"), std::string::npos) << "names the setting:\n" << text;
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.10:80", 1)[0].backend, "web1");
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.20:80", 1)[0].errnum, ENETUNREACH) << "nothing of the change was applied";
  agent_->reconfigure(services(4));
  EXPECT_TRUE(agent_->await_healthy(seconds(5))) << agent_->ctl({"status"}).text;
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.13:80", 1)[0].backend, "web1");
}

TEST_F(LimitsTest, free_slots_in_pieces_refuse_a_change_until_they_are_one) {
  constexpr int kPiece = 100;
  // Services by number, each of so many endpoints; the slots of a round robin are as many.
  const auto body = [&](const std::vector<std::pair<int, int>>& services) {
    std::string text = "services:\n";
    for (const auto& [number, count] : services) {
      text += fmt::format("  - {{name: s{0}, address: \"240.64.0.{1}:80\", balance: round_robin, endpoints: [", number,
                          number + 10);
      for (int e = 0; e < count; ++e) {
        text += fmt::format("{}{{address: \"{}\"}}", e == 0 ? "" : ", ", hosts_[0]->v4(10000 + e));
      }
      text += "]}\n";
    }
    return text;
  };
  add_servers(1);
  std::vector<std::pair<int, int>> all;
  for (int i = 0; i < 9; ++i) all.emplace_back(i, kPiece);
  start_agent({.agent_yaml = "  limits: {slots: 1024}\n", .body = body(all)});
  std::vector<std::pair<int, int>> every_other;
  for (int i = 0; i < 9; i += 2) every_other.emplace_back(i, kPiece);
  agent_->reconfigure(body(every_other));
  const auto is_known = [&](int number) { return agent_->share(fmt::format("s{}", number), hosts_[0]->v4(10000)) > 0; };
  ASSERT_TRUE(eventually(seconds(10), [&] { return !is_known(1); }));

  auto wanted = every_other;
  wanted.emplace_back(20, 2 * kPiece);
  agent_->reconfigure(body(wanted));
  ASSERT_TRUE(eventually(seconds(10), [&] { return agent_->ctl({"status"}).code == 3; }));
  const std::string text = agent_->ctl({"status"}).text;
  EXPECT_NE(text.find("apply_failed"), std::string::npos) << text;
  EXPECT_NE(text.find("free, but in pieces"), std::string::npos) << text;
  EXPECT_TRUE(is_known(8)) << "the last good tables are in force";
  EXPECT_FALSE(is_known(20));

  std::erase(wanted, std::pair(4, kPiece));  // 3 and 5 went before
  agent_->reconfigure(body(wanted));
  EXPECT_TRUE(agent_->await_healthy(seconds(10))) << agent_->ctl({"status"}).text;
  EXPECT_TRUE(is_known(20));
}

TEST_F(LimitsTest, a_change_over_a_restart_that_has_no_room_beside_the_old_state_is_applied_all_the_same) {
  // 48 endpoints of 63; other 48 take their place while no agent runs.
  const auto body = [&](int first_port) {
    std::string text = "services:\n";
    for (int i = 0; i < 8; ++i) {
      text += fmt::format("  - {{name: s{0}, address: \"240.64.0.{1}:80\", endpoints: [", i, i + 10);
      for (int e = 0; e < 6; ++e) {
        text += fmt::format("{}{{address: \"{}\", weight: {}}}", e == 0 ? "" : ", ", hosts_[0]->v4(first_port + e),
                            e == 0 ? 1 : 0);
      }
      text += "]}\n";
    }
    return text;
  };
  add_servers(1);
  start_agent({.agent_yaml = "  limits: {backends: 64}\n", .body = body(6000)});
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.10:80", 1)[0].errnum, ECONNREFUSED);
  ASSERT_EQ(agent_->terminate(), 0);
  agent_->reconfigure(body(7000));
  agent_->start();
  EXPECT_TRUE(agent_->await_healthy(seconds(10))) << agent_->ctl({"status"}).text;
  for (const char* const vip : {"240.64.0.10:80", "240.64.0.17:80"}) {
    EXPECT_EQ(call(app(), Via::kTcp, vip, 1)[0].backend, "web1") << vip;
  }
}

}  // namespace
}  // namespace mesh::test
