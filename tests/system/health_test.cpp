// SPDX-License-Identifier: Apache-2.0
// A backend that dies, hangs or vanishes leaves the kernel tables within fall x interval + timeout, and comes back.
#include <fmt/format.h>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr auto kInterval = milliseconds(400);
constexpr auto kTimeout = milliseconds(300);
constexpr int kFall = 3;
constexpr int kRise = 2;
constexpr auto kLeaves = kFall * kInterval + kTimeout;
constexpr auto kComesBack = seconds(3);
/// What asking (a process per question) and two busy cores may add to a time that is measured from outside.
constexpr auto kSlack = milliseconds(300);

class HealthTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(3);
    start_agent(
        {.body = fmt::format(
             "defaults:\n  probe: {{type: http, path: /healthz, interval: {}ms, timeout: {}ms, rise: {}, fall: {}, "
             "fast_interval: {}ms, jitter: 0}}\nservices:\n  - {{name: web, address: \"{}\", balance: "
             "round_robin, panic_threshold: 0, endpoints: {}}}\n",
             kInterval.count(), kTimeout.count(), kRise, kFall, kInterval.count(), kVip, endpoints(8080))});
    ASSERT_TRUE(eventually(seconds(5), [&] { return agent_->json({"status"})["probes"]["up"] == 3; }));
  }

  [[nodiscard]] double share_of_first() { return agent_->share("web", hosts_[0]->v4(8080)); }
  void expect_leaves() {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(eventually(kLeaves + seconds(5), [&] { return share_of_first() == 0; }));
    const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
    EXPECT_LE(took.count(), (kLeaves + kSlack).count());
    std::printf("left the tables after %lld ms, limit %lld ms\n", static_cast<long long>(took.count()),
                static_cast<long long>(kLeaves.count()));
  }
  void expect_back() {
    EXPECT_TRUE(eventually(kComesBack, [&] { return share_of_first() > 0; })) << agent_->ctl({"endpoints", "web"}).text;
  }
  std::string reason_of_first() {
    for (const Json& item : agent_->json({"endpoints", "web"})["items"]) {
      if (item["address"] == hosts_[0]->v4(8080)) return item["reason"];
    }
    return "?";
  }
};

TEST_F(HealthTest, killed) {
  servers_[0]->kill();
  expect_leaves();
  EXPECT_EQ(reason_of_first(), "refused");
  servers_[0]->start();
  expect_back();
}

TEST_F(HealthTest, stopped) {
  servers_[0]->stop();
  expect_leaves();
  EXPECT_EQ(reason_of_first(), "timeout");
  servers_[0]->resume();
  expect_back();
}

TEST_F(HealthTest, black_holed) {
  hosts_[0]->black_hole(*node_);
  expect_leaves();
  EXPECT_EQ(reason_of_first(), "timeout");
  hosts_[0]->mend(*node_);
  expect_back();
}

TEST_F(HealthTest, answering_with_an_error) {
  servers_[0]->answer_with(503);
  expect_leaves();
  EXPECT_EQ(reason_of_first(), "status");
  servers_[0]->answer_with(200);
  expect_back();
}

}  // namespace
}  // namespace mesh::test
