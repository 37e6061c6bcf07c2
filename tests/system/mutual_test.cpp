// SPDX-License-Identifier: Apache-2.0
// Mutual TLS between two nodes, each with an agent and a relay of its own: applications in pods that know nothing of
// it, identities from `meshctl ca`.
#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>

#include "tests/support/agent_test.hpp"
#include "tests/support/relay.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

/// Writes all payload of TCP that comes to or leaves this host to a file; not what stays on it.
constexpr std::string_view kSniffer = R"(
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
with open(sys.argv[1], 'wb', buffering=0) as out:
    out.write(b'began')
    while True:
        packet, where = s.recvfrom(65536)
        if where[0] != 'lo': out.write(packet)
)";

class MutualTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (!lab_) return;
    if (!have_program("python3")) GTEST_SKIP() << "SKIPPED: python3 is not installed";
    pod_ = &lab_->add_host("pod");
    far_ = &lab_->add_host("far");
    workload_ = std::make_unique<IdentifyServer>(*lab_, *far_);
    ca({"init", "--trust-domain", "lab.test"});
    for (const char* name : {"node", "shop", "cart"}) issue(name);
    trust(file("ca/bundle.crt"));
    // Somebody is in the pod, as in every pod.
    resident_ = Process::start(lab_->on(*pod_, "apps/shop"), {"sleep", "1000"});
    for (const char* name : {"apps/shop", "apps/cart", "apps/other", "far-apps"}) lab_->cgroup(name);
  }
  void TearDown() override {
    if (HasFailure() && relay_) ADD_FAILURE() << "log of the relay:\n" << relay_->log();
    if (HasFailure() && far_relay_) ADD_FAILURE() << "log of the other node's relay:\n" << far_relay_->log();
    relay_.reset();
    far_relay_.reset();
    far_agent_.reset();
    workload_.reset();
    AgentTest::TearDown();
  }

  [[nodiscard]] std::string file(const std::string& name) const { return (lab_->folder() / name).string(); }
  void ca(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {built_program("meshctl"), "ca"});
    arguments.insert(arguments.begin() + 3, {"--folder", file("ca")});
    const Output output = run(arguments);
    ASSERT_EQ(output.code, 0) << output.text << output.errors;
  }
  void issue(const std::string& name, const std::string& id = "") const {
    ca({"issue", "--id", "spiffe://lab.test/" + (id.empty() ? name : id), "--out", file(name)});
  }
  /// What both relays believe from now on.
  void trust(const std::string& bundle) const {
    std::filesystem::copy_file(bundle, file("trusted.crt"), std::filesystem::copy_options::overwrite_existing);
  }

  [[nodiscard]] std::string client_body(const std::string& servers = "spiffe://lab.test/node") const {
    const auto identity = [&](const std::string& name, const std::string& more = "") {
      return fmt::format("    - {{id: \"spiffe://lab.test/{}\", cgroup: {}, {}identity: {{folder: {}}}}}\n", name,
                         lab_->cgroup_path("apps/" + name), more, file(name));
    };
    return fmt::format(
               "services:\n"
               "  - {{name: web, address: \"240.64.0.10:80\", endpoints: [\"{}\"], tls: {{mode: mutual, server_ids: "
               "[\"{}\"]}}}}\n"
               "relay:\n"
               "  workers: 2\n"
               "  mesh: {{trust: [{{trust_domain: lab.test, bundle: {}}}]}}\n"
               "  identities:\n",
               far_->v4(7000), servers, file("trusted.crt")) +
           identity("cart", "user: 12345, ") + identity("shop") + identity("cart", "user: 0, ");
  }
  [[nodiscard]] std::string server_body() const {
    return fmt::format(
        "services: [{{name: web, address: \"240.64.0.10:80\", endpoints: [\"{}\"]}}]\n"
        "relay:\n"
        "  mesh:\n"
        "    address: \"0.0.0.0:15008\"\n"
        "    identity: {{folder: {}}}\n"
        "    trust: [{{trust_domain: lab.test, bundle: {}}}]\n"
        "    services: [{{service: web, allow: [\"spiffe://lab.test/shop\"]{}}}]\n",
        far_->v4(7000), file("node"), file("trusted.crt"), plaintext_);
  }
  void start() {
    far_agent_ =
        std::make_unique<Agent>(*lab_, *far_, AgentSpec{.name = "far", .cgroups = {"far-apps"}, .body = server_body()});
    far_agent_->start();
    far_relay_ = std::make_unique<RelayProcess>(*lab_, *far_, *far_agent_, "far-relay");
    far_relay_->start();
    agent_ = std::make_unique<Agent>(*lab_, *node_, AgentSpec{.body = client_body()});
    agent_->start();
    relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
    relay_->start();
    ASSERT_TRUE(listens(*far_agent_)) << far_agent_->log() << far_relay_->log();
    ASSERT_TRUE(listens(*agent_)) << agent_->log() << relay_->log();
    ASSERT_TRUE(eventually(seconds(10), [&] { return ask() == "far"; }));
  }
  static bool listens(Agent& agent) {
    return eventually(seconds(20), [&] {
      if (agent.ctl({"sources"}).code != 0) return false;  // it is not up yet
      const Json relay = agent.json({"status"})["relay"];
      return relay.is_object() && relay.value("connected", false) && relay["listeners"].size() == 1 &&
             relay["listeners"][0]["state"] == "listening";
    });
  }

  /// "far", or how it failed; and that the application saw the address it asked for.
  std::string ask(const std::string& cgroup = "apps/shop", const Host* from = nullptr) {
    const Call made =
        call(lab_->on(from == nullptr ? *pod_ : *from, cgroup), Via::kTcp, "240.64.0.10:80", 1, seconds(5)).at(0);
    if (made.errnum != 0) return made.errnum == ECONNREFUSED ? "refused" : made.errnum == ECONNRESET ? "reset" : "?";
    EXPECT_NE(made.peer.find("240.64.0.10:80"), std::string::npos) << made.peer;
    return made.backend;
  }
  /// As who knows nothing of the mesh: past both relays.
  std::string ask_plainly() const {
    const Call made = call(lab_->on(*node_), Via::kTcp, far_->v4(7000), 1, seconds(5)).at(0);
    return made.errnum == 0 ? made.backend : made.errnum == ECONNREFUSED ? "refused" : "?";
  }
  static Json listener(Agent& agent) { return agent.json({"status"})["relay"]["listeners"][0]; }
  static bool has(Agent& agent, const std::string& list, const std::string& name) {
    const Json counts = listener(agent)[list];
    return std::ranges::any_of(counts, [&](const Json& one) { return one["name"] == name; });
  }
  static bool counted(Agent& agent, const std::string& list, const std::string& name) {
    return eventually(seconds(5), [&] { return has(agent, list, name); });
  }

  std::string plaintext_;  ///< Of the service on the other node.
  Host* pod_ = nullptr;
  Host* far_ = nullptr;
  Process resident_;
  std::unique_ptr<IdentifyServer> workload_;
  std::unique_ptr<Agent> far_agent_;
  std::unique_ptr<RelayProcess> relay_;
  std::unique_ptr<RelayProcess> far_relay_;
};

TEST_F(MutualTest, an_application_reaches_another_node_as_who_it_is_and_in_tls_only) {
  start();
  Process sniffer = Process::start(lab_->on(*far_), {"python3", "-c", std::string(kSniffer), file("wire")});
  const auto wire = [&] {
    std::ifstream captured(file("wire"), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(captured), {});
  };
  ASSERT_TRUE(eventually(seconds(5), [&] { return wire().starts_with("began"); }));
  EXPECT_EQ(ask(), "far");
  EXPECT_EQ(ask("apps/shop", node_), "far") << "from the node itself";
  ASSERT_TRUE(eventually(seconds(5), [&] { return wire().find("meshd/1") != std::string::npos; }));
  EXPECT_EQ(wire().find("far\n"), std::string::npos) << "what the workload says is on the wire";
  EXPECT_TRUE(counted(*agent_, "identities", "web:80 spiffe://lab.test/shop spiffe://lab.test/node"))
      << listener(*agent_);
  EXPECT_TRUE(counted(*far_agent_, "identities", "web:80 spiffe://lab.test/shop ")) << listener(*far_agent_);
  EXPECT_NE(agent_->http("/metrics")
                .find("mesh_relay_identities_total{listener=\"web:80\",service=\"web:80\",client=\"spiffe://lab.test/"
                      "shop\",server=\"spiffe://lab.test/node\"}"),
            std::string::npos);
  EXPECT_TRUE(eventually(seconds(5), [&] { return listener(*agent_).value("resumed", 0) >= 1; })) << listener(*agent_);
  EXPECT_NE(agent_->ctl({"certs"}).text.find("spiffe://lab.test/shop"), std::string::npos)
      << agent_->ctl({"certs"}).text;
}

TEST_F(MutualTest, who_is_not_allowed_not_mapped_or_not_the_right_server_is_refused_by_name) {
  start();
  EXPECT_EQ(ask("apps/cart"), "reset");
  EXPECT_TRUE(counted(*agent_, "failed", "mesh: not allowed")) << listener(*agent_);
  EXPECT_TRUE(counted(*far_agent_, "failed", "mesh: not allowed")) << listener(*far_agent_);
  EXPECT_NE(far_relay_->log().find("spiffe://lab.test/cart"), std::string::npos);
  EXPECT_EQ(ask("apps/other"), "reset");
  EXPECT_TRUE(counted(*agent_, "failed", "identity: none for the client")) << listener(*agent_);
  EXPECT_NE(relay_->log().find(lab_->cgroup_path("apps/other")), std::string::npos) << relay_->log();
  agent_->reconfigure(client_body("spiffe://lab.test/other/*"));
  EXPECT_TRUE(eventually(seconds(10), [&] {
    return ask() == "reset" && has(*agent_, "failed", "identity: the server's is not allowed");
  })) << listener(*agent_);
  agent_->reconfigure(client_body());
  EXPECT_TRUE(eventually(seconds(10), [&] { return ask() == "far"; }));
  // A certificate that says something else than the configuration is of no use, and the one before stays.
  issue("shop", "cart");
  EXPECT_TRUE(eventually(seconds(10), [&] {
    return agent_->json({"status"})["relay"]["identities"][1].value("error", "").find("spiffe://lab.test/cart") !=
           std::string::npos;
  }));
  EXPECT_EQ(ask(), "far");
}

TEST_F(MutualTest, plaintext_past_the_relay_is_counted_until_its_day_is_over_and_then_refused) {
  start();
  EXPECT_EQ(ask_plainly(), "far") << "nobody looks";
  plaintext_ = ", plaintext: permissive, permissive_until: \"2199-12-31\"";
  far_agent_->reconfigure(server_body());
  const auto plaintext = [&] { return far_agent_->json({"status"})["relay"]["plaintext"]; };
  ASSERT_TRUE(eventually(seconds(10), [&] { return plaintext().size() == 1; }));
  EXPECT_EQ(ask_plainly(), "far");
  EXPECT_EQ(ask(), "far");
  EXPECT_TRUE(eventually(seconds(10), [&] { return plaintext()[0].value("connections", 0) == 1; })) << plaintext();
  EXPECT_EQ(plaintext()[0]["source"], node_->v4());
  EXPECT_EQ(plaintext()[0]["ends_at"], "2200-01-01T00:00:00.000Z");
  EXPECT_NE(far_agent_->http("/metrics").find("mesh_relay_plaintext_total{service=\"web:80\",verdict=\"taken\"} 1"),
            std::string::npos);
  EXPECT_NE(far_agent_->log().find("plaintext taken"), std::string::npos) << far_agent_->log();
  plaintext_ = ", plaintext: permissive, permissive_until: \"2020-12-31\"";
  far_agent_->reconfigure(server_body());
  EXPECT_TRUE(eventually(seconds(10), [&] { return ask_plainly() == "refused"; }));
  EXPECT_EQ(ask(), "far");
  EXPECT_TRUE(eventually(seconds(10), [&] { return plaintext()[0].value("refused", 0) >= 1; })) << plaintext();
  far_agent_->kill();
  EXPECT_EQ(ask_plainly(), "refused") << "the agent is away";
  EXPECT_EQ(ask(), "far");
  far_agent_->start();
  ASSERT_TRUE(eventually(seconds(10), [&] { return ask_plainly() == "refused" && ask() == "far"; }));
  plaintext_.clear();
  far_agent_->reconfigure(server_body());
  EXPECT_TRUE(eventually(seconds(10), [&] { return ask_plainly() == "far"; }));
}

TEST_F(MutualTest, rotation_and_restarts_drop_nothing) {
  start();
  std::atomic<bool> stop = false;
  std::atomic<int> asked = 0;
  std::vector<std::string> failures;
  std::thread client([&] {
    while (!stop) {
      const std::string got = ask();
      if (got != "far") failures.push_back(got);
      ++asked;
    }
  });
  const auto some_more = [&](int count) {
    const int before = asked;
    EXPECT_TRUE(eventually(seconds(20), [&] { return asked > before + count; }));
  };
  const auto serial = [&] {
    return agent_->json({"status"})["relay"]["identities"][1]["certificates"][0].value("serial", "");
  };
  const std::string first = serial();
  ca({"rotate"});
  trust(file("ca/bundle.crt"));
  some_more(20);
  std::this_thread::sleep_for(seconds(4));  // both relays have looked twice
  issue("node");
  issue("shop");
  EXPECT_TRUE(eventually(seconds(10), [&] { return serial() != first; }));
  some_more(20);
  std::this_thread::sleep_for(seconds(4));
  ca({"rotate", "--finish"});
  trust(file("ca/bundle.crt"));
  std::this_thread::sleep_for(seconds(4));
  some_more(20);
  const auto agent_has_the_relay = [&] {
    return eventually(seconds(10), [&] { return agent_->json({"status"})["relay"]["pid"] == relay_->pid(); });
  };
  relay_->start_successor();
  EXPECT_TRUE(agent_has_the_relay());
  some_more(20);
  agent_->kill();
  some_more(20);
  agent_->start();
  EXPECT_TRUE(agent_->await_healthy());
  some_more(20);
  EXPECT_TRUE(agent_has_the_relay());  // and its sockets: the agent that died held the others
  stop = true;
  client.join();
  EXPECT_EQ(failures, std::vector<std::string>{});
  // Killed: who comes meanwhile waits for the next one.
  relay_->kill();
  std::string meanwhile;
  std::thread waiting([&] { meanwhile = ask(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  relay_->start();
  waiting.join();
  EXPECT_EQ(meanwhile, "far");
}

}  // namespace
}  // namespace mesh::test
