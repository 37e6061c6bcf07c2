// SPDX-License-Identifier: Apache-2.0
// End to end: what an unmodified application sees when it connects to a service.
#include <fmt/format.h>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

constexpr const char* kVip4 = "240.64.0.10:80";
constexpr const char* kVip6 = "[fd6d:6573:6864::10]:80";
constexpr const char* kUdpVip4 = "240.64.0.10:53";
constexpr const char* kUdpVip6 = "[fd6d:6573:6864::10]:53";

class BalanceTest : public AgentTest {
 protected:
  /// The same three backends behind a service of each family and protocol.
  std::string all_four(const std::string& balance) {
    std::string text = "services:\n";
    const auto add = [&](const char* name, const char* address, const char* protocol, bool v6) {
      text += fmt::format("  - {{name: {}, address: \"{}\", protocol: {}, balance: {}, endpoints: {}}}\n", name,
                          address, protocol, balance, endpoints(7000, v6));
    };
    add("tcp4", kVip4, "tcp", false);
    add("tcp6", kVip6, "tcp", true);
    add("udp4", kUdpVip4, "udp", false);
    add("udp6", kUdpVip6, "udp", true);
    return text;
  }
};

TEST_F(BalanceTest, round_robin_is_exact_over_every_kind_of_socket) {
  add_servers(3);
  start_agent({.body = all_four("round_robin")});
  const std::map<std::string, int> even{{"web1", 10}, {"web2", 10}, {"web3", 10}};
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip4, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kTcpMapped, kVip4, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip6, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kUdpConnected, kUdpVip4, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kUdpConnected, kUdpVip6, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kUdpUnconnected, kUdpVip4, 30)), even);
  EXPECT_EQ(tally(call(app(), Via::kUdpUnconnected, kUdpVip6, 30)), even);
}

TEST_F(BalanceTest, the_application_sees_the_address_it_asked_for) {
  add_servers(1);
  start_agent({.body = all_four("round_robin")});
  EXPECT_EQ(call(app(), Via::kTcp, kVip4, 1)[0].peer, kVip4);
  EXPECT_EQ(call(app(), Via::kTcpMapped, kVip4, 1)[0].peer, kVip4);
  EXPECT_EQ(call(app(), Via::kTcp, kVip6, 1)[0].peer, kVip6);
  EXPECT_EQ(call(app(), Via::kUdpConnected, kUdpVip4, 1)[0].peer, kUdpVip4);
  EXPECT_EQ(call(app(), Via::kUdpUnconnected, kUdpVip4, 1)[0].peer, kUdpVip4);
  EXPECT_EQ(call(app(), Via::kUdpUnconnected, kUdpVip6, 1)[0].peer, kUdpVip6);
}

TEST_F(BalanceTest, weights_are_shares) {
  add_servers(2);
  start_agent({.body = fmt::format("services:\n  - {{name: web, address: \"{}\", balance: round_robin, endpoints: "
                                   "[{{address: \"{}\", weight: 3}}, {{address: \"{}\", weight: 1}}]}}\n",
                                   kVip4, hosts_[0]->v4(7000), hosts_[1]->v4(7000))});
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip4, 40)), (std::map<std::string, int>{{"web1", 30}, {"web2", 10}}));
  EXPECT_DOUBLE_EQ(agent_->share("web", hosts_[0]->v4(7000)), 0.75);
}

TEST_F(BalanceTest, what_is_no_service_and_who_is_not_attached_stay_untouched) {
  add_servers(1);
  start_agent({.body = all_four("round_robin")});
  EXPECT_EQ(call(app(), Via::kTcp, hosts_[0]->v4(7000), 1)[0].peer, hosts_[0]->v4(7000));
  EXPECT_EQ(call(app(), Via::kTcp, "240.64.0.10:81", 1)[0].errnum, ENETUNREACH);
  EXPECT_EQ(call(lab_->on(*node_, "others"), Via::kTcp, kVip4, 1)[0].errnum, ENETUNREACH);
  EXPECT_EQ(call(lab_->on(*node_, "apps/leaf"), Via::kTcp, kVip4, 1)[0].backend, "web1") << "a cgroup below is covered";
}

TEST_F(BalanceTest, a_service_without_a_usable_backend_refuses_at_once) {
  start_agent({.body = fmt::format("services:\n  - {{name: none, address: \"{}\", endpoints: []}}\n", kVip4)});
  const Call made = call(app(), Via::kTcp, kVip4, 1)[0];
  EXPECT_EQ(made.errnum, ECONNREFUSED);
  EXPECT_LT(made.connect_ms, 50);
}

TEST_F(BalanceTest, maglev_and_source_hash_keep_a_client_on_one_backend) {
  add_servers(3);
  start_agent(
      {.body = fmt::format("services:\n  - {{name: m, address: \"{}\", balance: maglev, endpoints: {}}}\n"
                           "  - {{name: s, address: \"240.64.0.11:80\", balance: source_hash, endpoints: {}}}\n",
                           kVip4, endpoints(7000), endpoints(7000))});
  EXPECT_EQ(tally(call(app(), Via::kTcp, kVip4, 30)).size(), 1U);
  EXPECT_EQ(tally(call(app(), Via::kTcp, "240.64.0.11:80", 30)).size(), 1U);
}

}  // namespace
}  // namespace mesh::test
