// SPDX-License-Identifier: Apache-2.0
// The lab itself: what every other test here stands on.
#include "tests/support/lab.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/client.hpp"
#include "tests/support/identify_server.hpp"

namespace mesh::test {
namespace {

class LabTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = Lab::unavailable(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(LabTest, hosts_reach_each_other_over_both_families) {
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web = lab.add_host("web");
  IdentifyServer server(lab, web);
  for (const Via via : {Via::kTcp, Via::kUdpConnected, Via::kUdpUnconnected}) {
    for (const std::string& address : {web.v4(7000), web.v6(7000)}) {
      const auto calls = call(lab.on(node, "apps"), via, address, 1);
      EXPECT_EQ(calls[0].backend, "web") << to_string(via) << " " << address << " " << calls[0].errnum;
      EXPECT_EQ(calls[0].peer, address) << to_string(via);
    }
  }
  EXPECT_EQ(call(lab.on(node, "apps"), Via::kTcpMapped, web.v4(7000), 1)[0].backend, "web");
}

TEST_F(LabTest, an_address_nobody_has_fails_at_once) {
  Lab lab;
  Host& node = lab.add_host("node");
  const auto calls = call(lab.on(node, "apps"), Via::kTcp, "240.64.0.10:80", 1);
  EXPECT_EQ(calls[0].errnum, ENETUNREACH);
}

TEST_F(LabTest, a_black_hole_swallows_and_a_killed_server_refuses) {
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web = lab.add_host("web");
  IdentifyServer server(lab, web);
  const auto once = [&] {
    return call(lab.on(node, "apps"), Via::kTcp, web.v4(7000), 1, std::chrono::milliseconds(300))[0];
  };
  ASSERT_EQ(once().backend, "web");
  web.black_hole(node);
  EXPECT_EQ(once().errnum, ETIMEDOUT);
  web.mend(node);
  EXPECT_EQ(once().backend, "web");
  server.kill();
  EXPECT_EQ(once().errnum, ECONNREFUSED);
  server.start();
  EXPECT_EQ(once().backend, "web");
}

TEST_F(LabTest, a_crashed_lab_is_swept_by_the_next_one) {
  const pid_t owner = [] {
    Process crashing = Process::start({}, [] {
      Lab lab;
      Host& host = lab.add_host("node");
      const Process child = Process::start(lab.on(host), {"sleep", "600"});
      ::raise(SIGKILL);
      return 0;
    });
    EXPECT_EQ(crashing.wait(std::chrono::seconds(20)), 128 + SIGKILL);
    return crashing.pid();
  }();
  const std::string name = "meshlab-" + std::to_string(owner) + "-0";
  Lab lab;
  EXPECT_FALSE(std::filesystem::exists(lab.cgroup_root() + "/" + name));
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::temp_directory_path() / name));
  EXPECT_FALSE(std::filesystem::exists("/run/netns/" + name));
  EXPECT_FALSE(std::filesystem::exists("/run/netns/" + name + "-node"));
}

TEST_F(LabTest, the_connect_loop_counts_failures) {
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web = lab.add_host("web");
  IdentifyServer server(lab, web);
  ConnectLoop loop(lab.on(node, "apps"), {{Via::kTcp, web.v4(7000)}, {Via::kUdpConnected, web.v6(7000)}});
  ASSERT_TRUE(loop.await_rounds(100));
  EXPECT_EQ(loop.failures(), 0U);
  server.kill();
  ASSERT_TRUE(loop.await_rounds(10));
  const auto counts = loop.finish();
  EXPECT_GT(counts[0].failures, 0U);
  EXPECT_EQ(counts[0].first_errno, ECONNREFUSED);
  EXPECT_GT(counts[1].failures, 0U);
}

}  // namespace
}  // namespace mesh::test
