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

/// A gRPC health service on all IPv6 addresses of its host.
constexpr const char* kGrpcServer = R"(
import sys, time
from concurrent import futures
import grpc
server = grpc.server(futures.ThreadPoolExecutor(2))
check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),))
server.add_insecure_port("[::]:" + sys.argv[1])
server.start()
time.sleep(60)
)";

class HealthV6Test : public AgentTest {
 protected:
  struct Service {
    std::string name, vip, probe;
    int port;
  };

  void start(const std::vector<Service>& services) {
    std::string body = "services:\n";
    for (const Service& service : services) {
      body += fmt::format(
          "  - {{name: {}, address: \"{}\", balance: round_robin, panic_threshold: 0, endpoints: {}, probe: {{{}, "
          "interval: 200ms, fast_interval: 200ms, timeout: 150ms, rise: 1, fall: 2}}}}\n",
          service.name, service.vip, endpoints(service.port, true), service.probe);
    }
    start_agent({.body = body});
  }
  std::string state_of(const std::string& service, const std::string& address) {
    for (const Json& item : agent_->json({"endpoints", service})["items"]) {
      if (item["address"] == address) return item["reason"];
    }
    return "?";
  }
};

TEST_F(HealthV6Test, tcp_and_http_probes_move_ipv6_clients_away_and_back) {
  add_servers(2);
  const std::vector<Service> services{{"tcp", "[fd6d:6573:6864::10]:80", "type: tcp", 7000},
                                      {"http", "[fd6d:6573:6864::11]:80", "type: http, path: /healthz", 8080}};
  start(services);
  ASSERT_TRUE(eventually(seconds(5), [&] { return agent_->json({"status"})["probes"]["up"] == 4; }));
  const std::string& vip = services[0].vip;
  EXPECT_EQ(tally(call(app(), Via::kTcp, vip, 4)), (std::map<std::string, int>{{"web1", 2}, {"web2", 2}}));
  servers_[0]->kill();
  for (const Service& service : services) {
    EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->share(service.name, hosts_[0]->v6(service.port)) == 0; }));
    EXPECT_EQ(state_of(service.name, hosts_[0]->v6(service.port)), "refused");
  }
  EXPECT_EQ(tally(call(app(), Via::kTcp, vip, 4)), (std::map<std::string, int>{{"web2", 4}}));
  servers_[0]->start();
  for (const Service& service : services) {
    EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->share(service.name, hosts_[0]->v6(service.port)) > 0; }));
  }
}

TEST_F(HealthV6Test, grpc_probes_reach_ipv6_endpoints) {
  if (run({"/usr/bin/python3", "-c", "import grpc"}).code != 0) {
    GTEST_SKIP() << "SKIPPED: no python3-grpcio; scripts/setup --interop installs it";
  }
  add_servers(1);
  const std::string code(kGrpcServer);
  auto server = Process::start(lab_->on(*hosts_[0]), {"/usr/bin/python3", "-c", code, "9000"});
  start({{"grpc", "[fd6d:6573:6864::12]:80", "type: grpc", 9000}});
  const std::string address = hosts_[0]->v6(9000);
  EXPECT_TRUE(eventually(seconds(20), [&] { return agent_->json({"status"})["probes"]["up"] == 1; }))
      << agent_->ctl({"endpoints", "grpc"}).text;
  EXPECT_EQ(state_of("grpc", address), "ok");
  server.kill();
  EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->share("grpc", address) == 0; }));
  EXPECT_EQ(state_of("grpc", address), "refused");
}

}  // namespace
}  // namespace mesh::test
