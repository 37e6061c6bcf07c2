// SPDX-License-Identifier: Apache-2.0
// The xDS server with a real xDS client: Python's gRPC calls xds:///orders.mesh through updates, failover and refusals.
// First the server of the library alone, then that of a real agent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/agent_test.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/xds_double.hpp"
#include "xds/library.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kPython = "/usr/bin/python3";

std::string peer_script() { return std::string(MESH_SOURCE_DIR) + "/tests/interop/xds_peer.py"; }

std::string bootstrap(const std::string& server) {
  return nlohmann::json{
      {"xds_servers",
       {{{"server_uri", server}, {"channel_creds", {{{"type", "insecure"}}}}, {"server_features", {"xds_v3"}}}}},
      {"node", {{"id", "app-1"}}}}
      .dump();
}

/// A peer of which the lines are read.
class Caller {
 public:
  Caller(std::string folder, const std::string& server, SpawnOptions spawn = {})
      : lines_(folder + "/calls"), spawn_(std::move(spawn)) {
    std::ofstream(folder + "/bootstrap.json") << bootstrap(server);
    spawn_.output = lines_;
    spawn_.environment = {"GRPC_XDS_BOOTSTRAP=" + folder + "/bootstrap.json"};
    process_ = Process::start(spawn_, {kPython, peer_script(), "loop", "xds:///orders.mesh"});
  }
  /// Who answered the last twenty calls, each once.
  [[nodiscard]] std::set<std::string> last() const {
    const auto all = lines();
    return {all.end() - std::min<std::ptrdiff_t>(20, std::ssize(all)), all.end()};
  }
  /// Waits until twenty calls in a row were answered by these.
  [[nodiscard]] bool reaches(const std::set<std::string>& names) const {
    return eventually(20s, [&] { return lines().size() >= 20 && last() == names; });
  }
  /// Waits for so many more calls.
  [[nodiscard]] bool await(std::size_t more) const {
    const std::size_t before = lines().size();
    return eventually(20s, [&] { return lines().size() >= before + more; });
  }
  /// Of calls since the first one that was answered.
  [[nodiscard]] std::vector<std::string> failures() const {
    auto all = lines();
    const auto is_failure = [](const std::string& line) { return line.starts_with("failed"); };
    const auto first = std::ranges::find_if_not(all, is_failure);
    std::vector<std::string> failed;
    std::copy_if(first, all.end(), std::back_inserter(failed), is_failure);
    return failed;
  }

 private:
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::ifstream file(lines_);
    for (std::string line; std::getline(file, line);) all.push_back(line);
    return all;
  }
  std::string lines_;
  SpawnOptions spawn_;
  Process process_;
};

class XdsServerTest : public testing::Test {
 protected:
  XdsServerTest() : folder_("/tmp/xds-server-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
  }
  ~XdsServerTest() override {
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }
  void SetUp() override {
    if (const std::string why = python_grpc_unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
    const auto library = xds::library();
    if (!library) GTEST_SKIP() << "SKIPPED: " << library.error().to_string();
    address_ = "127.0.0.1:" + std::to_string(free_port());
    auto server = (*library)->serve({.listen = address_, .on_refusal = [this](const xds::Refused& refused) {
                                       const std::lock_guard lock(mutex_);
                                       refused_.push_back(refused.client + ": " + refused.why);
                                     }});
    ASSERT_TRUE(server) << server.error().to_string();
    server_ = std::move(*server);
    for (const char* name : {"a", "b"}) {
      ports_.push_back(free_port());
      SpawnOptions spawn;
      spawn.output = folder_ + "/" + name + ".log";
      peers_.push_back(
          Process::start(spawn, {kPython, peer_script(), "serve", "127.0.0.1:" + std::to_string(ports_.back()), name}));
    }
    ASSERT_TRUE(eventually(20s, [&] { return listens(ports_[0]) && listens(ports_[1]); }));
  }

  struct At {
    std::uint32_t priority;
    int peer;
    xds::Health health = xds::Health::kHealthy;
  };
  void give(const std::vector<At>& endpoints) {
    auto served = std::make_shared<xds::Served>();
    served->name = "orders:80";
    served->assignment.name = served->name;
    for (const At& one : endpoints) {
      served->assignment.localities.push_back({.region = {},
                                               .zone = "z" + std::to_string(one.peer),
                                               .weight = 1,
                                               .priority = one.priority,
                                               .endpoints = {{.address = "127.0.0.1",
                                                              .port = ports_.at(static_cast<std::size_t>(one.peer)),
                                                              .health = one.health,
                                                              .weight = 1}}});
    }
    auto world = std::make_shared<xds::World>();
    world->version = ++version_;
    world->domain = "mesh";
    world->services[served->name] = std::move(served);
    server_->set_world(std::move(world));
  }
  std::vector<std::string> refused() {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

  std::string folder_;
  std::string address_;
  std::vector<std::uint16_t> ports_;
  std::vector<Process> peers_;
  std::mutex mutex_;
  std::vector<std::string> refused_;
  std::uint64_t version_ = 0;
  std::unique_ptr<xds::Server> server_;
};

TEST_F(XdsServerTest, a_grpc_client_follows_updates_priorities_and_health_and_keeps_what_it_had_when_it_refuses) {
  give({{0, 0}});
  Caller caller(folder_, address_);
  ASSERT_TRUE(caller.reaches({"a"}));
  give({{0, 0}, {0, 1}});
  EXPECT_TRUE(caller.reaches({"a", "b"})) << "update";
  give({{0, 0}, {1, 1}});
  EXPECT_TRUE(caller.reaches({"a"})) << "the first priority";
  give({{0, 0, xds::Health::kUnhealthy}, {1, 1}});
  EXPECT_TRUE(caller.reaches({"b"})) << "failover, though the first one still listens";
  give({{0, 0}, {1, 1}});
  EXPECT_TRUE(caller.reaches({"a"})) << "and back";
  EXPECT_EQ(server_->stats().refused, 0U);

  give({{0, 1}, {2, 0}});  // priorities with a gap
  ASSERT_TRUE(eventually(10s, [&] { return server_->stats().refused > 0; }));
  EXPECT_THAT(refused(), testing::ElementsAre(testing::StartsWith("app-1: ")));
  ASSERT_TRUE(caller.await(30));
  EXPECT_TRUE(caller.reaches({"a"})) << "the refused version is not used";
  EXPECT_EQ(server_->stats().refused, 1U) << "and not said again";
  give({{0, 1}});
  EXPECT_TRUE(caller.reaches({"b"}));
  EXPECT_THAT(caller.failures(), testing::IsEmpty());
  EXPECT_EQ(server_->stats().clients, 1U);
}

TEST_F(XdsServerTest, a_client_keeps_what_it_knows_while_the_server_is_away) {
  give({{0, 0}});
  Caller caller(folder_, address_);
  ASSERT_TRUE(caller.reaches({"a"}));
  const auto begun = std::chrono::steady_clock::now();
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 2s) << "stopping does not wait for clients";
  ASSERT_TRUE(caller.await(50));
  EXPECT_THAT(caller.failures(), testing::IsEmpty());
  server_ = (*xds::library())->serve({.listen = address_, .on_refusal = {}}).value();
  give({{0, 1}});
  EXPECT_TRUE(caller.reaches({"b"}));
  EXPECT_THAT(caller.failures(), testing::IsEmpty());
}

TEST_F(XdsServerTest, an_address_that_is_taken_is_an_error) {
  const auto second = (*xds::library())->serve({.listen = address_, .on_refusal = {}});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, base::ErrorKind::kConflict);
}

TEST_F(XdsServerTest, a_client_that_refuses_everything_is_told_each_version_once) {
  give({{0, 0}});
  SpawnOptions spawn;
  spawn.output = folder_ + "/deaf.log";
  const Process deaf =
      Process::start(spawn, {kPython, peer_script(), "deaf", address_, std::string(MESH_SOURCE_DIR) + "/agent"});
  ASSERT_TRUE(eventually(20s, [&] { return server_->stats().refused == 1; }));
  EXPECT_THAT(refused(), testing::ElementsAre("deaf: I don't like it"));
  server_->set_world(std::make_shared<xds::World>(xds::World{.version = 9, .services = {}, .domain = {}}));
  ASSERT_TRUE(eventually(20s, [&] { return server_->stats().refused == 2; }));
  EXPECT_EQ(server_->stats().answers, 2U);
}

class XdsServerAgentTest : public AgentTest {};

TEST_F(XdsServerAgentTest, a_grpc_client_uses_the_endpoints_that_the_agent_would) {
  if (const std::string why = python_grpc_unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
  std::vector<Process> peers;
  std::vector<Host*> webs;
  for (const char* name : {"web1", "web2"}) {
    Host& web = lab_->add_host(name);
    webs.push_back(&web);
    SpawnOptions spawn = lab_->on(web, "others");
    spawn.output = (lab_->folder() / (std::string(name) + ".log")).string();
    peers.push_back(Process::start(spawn, {kPython, peer_script(), "serve", web.v4(7100), name}));
  }
  const auto body = [&](const std::string& more_of_first) {
    return "services:\n  - name: orders\n    address: 240.64.0.10:80\n"
           "    probe: {type: tcp, interval: 100ms, timeout: 100ms, fall: 2}\n    endpoints:\n      - {address: \"" +
           webs[0]->v4(7100) + "\"" + more_of_first + "}\n      - {address: \"" + webs[1]->v4(7100) + "\", tier: 1}\n";
  };
  start_agent({.agent_yaml = "  xds: {listen: \"127.0.0.1:18000\"}\n", .body = body("")});
  Caller caller(lab_->folder(), "127.0.0.1:18000", lab_->on(*node_, "others"));
  ASSERT_TRUE(caller.reaches({"web1"}));
  agent_->reconfigure(body(", weight: 0"));
  EXPECT_TRUE(caller.reaches({"web2"})) << "update";
  agent_->reconfigure(body(""));
  EXPECT_TRUE(caller.reaches({"web1"}));
  EXPECT_EQ(agent_->ctl({"drain", "orders", webs[0]->v4(7100)}).code, 0);
  EXPECT_TRUE(caller.reaches({"web2"})) << "drained by an operator";
  EXPECT_THAT(caller.failures(), testing::IsEmpty());
  EXPECT_NE(agent_->http("/metrics").find("\nmesh_xds_clients 1\n"), std::string::npos);
  {
    SpawnOptions spawn = lab_->on(*node_, "others");
    spawn.output = (lab_->folder() / "deaf.log").string();
    const Process deaf = Process::start(
        spawn, {kPython, peer_script(), "deaf", "127.0.0.1:18000", std::string(MESH_SOURCE_DIR) + "/agent"});
    Json refusals;
    EXPECT_TRUE(eventually(20s, [&] { return !(refusals = agent_->json({"sources"})["client_refusals"]).empty(); }));
    EXPECT_EQ(refusals[0].value("client", ""), "deaf") << refusals.dump();
    EXPECT_EQ(refusals[0].value("why", ""), "I don't like it");
    EXPECT_THAT(agent_->ctl({"sources", "-o", "wide"}).text, testing::HasSubstr("REFUSED BY"));
  }
  EXPECT_EQ(agent_->terminate(), 0);
  ASSERT_TRUE(caller.await(50));
  EXPECT_THAT(caller.failures(), testing::IsEmpty()) << "without the agent it goes on";
}

}  // namespace
}  // namespace mesh::test
