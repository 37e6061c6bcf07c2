// SPDX-License-Identifier: Apache-2.0
// Applications that know nothing of TLS and servers that speak nothing else, with the relay between them: on the node
// itself and in pods, which are other network namespaces.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <thread>

#include "tests/support/agent_test.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/relay.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr int kPort = 8443;
constexpr int kFirstPort = 15400;  // agent.relay_port as it is unless configured

class OriginateTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (!lab_) return;
    if (!have_program("python3")) GTEST_SKIP() << "SKIPPED: python3 is not installed";
    pod_ = &lab_->add_host("pod");
    for (const char* name : {"web1", "web2"}) hosts_.push_back(&lab_->add_host(name));
    const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
    authority_ = make_authority("lab", end);
    ca_ = lab_->write_file("ca.pem", authority_.certificate);
    write_pair("pay", make_certificate_for("DNS:pay.test", end, &authority_));
    write_pair("old",
               make_certificate_for("DNS:pay.test", std::chrono::system_clock::now() - seconds(60), &authority_));
    write_pair("self", make_certificate_for("DNS:pay.test", end, nullptr));
    write_pair("client", make_certificate_for("DNS:node.test", end, &authority_));
    // Somebody is in the pod, as in every pod.
    resident_ = Process::start(lab_->on(*pod_, "apps"), {"sleep", "1000"});
  }
  void TearDown() override {
    if (HasFailure() && relay_) ADD_FAILURE() << "log of the relay:\n" << relay_->log();
    relay_.reset();
    backends_.clear();
    AgentTest::TearDown();
  }

  void write_pair(const std::string& name, const CertificatePem& pair) const {
    lab_->write_file(name + ".crt", pair.certificate);
    lab_->write_file(name + ".key", pair.key);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (lab_->folder() / name).string(); }

  Process& serve(const Host& host, const std::string& pair, std::vector<std::string> more = {}) {
    std::vector<std::string> argv{"python3",           tls_backend(),       host.name(),
                                  file(pair + ".crt"), file(pair + ".key"), std::to_string(kPort)};
    argv.insert(argv.end(), more.begin(), more.end());
    backends_.push_back(Process::start(lab_->on(host, "servers", "backends.log"), argv));
    return backends_.back();
  }

  /// pay: both servers, IPv4 and IPv6; plain: no TLS.
  [[nodiscard]] std::string body(const std::string& tls = "") const {
    const std::string of =
        fmt::format("tls: {{mode: originate, server_name: pay.test, ca: {}{}}}", ca_, tls.empty() ? "" : ", " + tls);
    return fmt::format(
        "services:\n"
        "  - {{name: pay, address: \"240.64.0.10:443\", balance: round_robin, endpoints: {}, {}}}\n"
        "  - {{name: pay6, address: \"[fd6d::10]:443\", endpoints: {}, {}}}\n",
        endpoints(kPort), of, endpoints(kPort, true), of);
  }
  void start(const std::string& text, const std::string& agent_yaml = "") {
    agent_ = std::make_unique<Agent>(*lab_, *node_, AgentSpec{.agent_yaml = agent_yaml, .body = text});
    agent_->start();
    relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
    relay_->start();
    ASSERT_TRUE(await_listening(2)) << agent_->json({"status"})["relay"] << agent_->log() << relay_->log();
  }
  bool await_listening(std::size_t services) {
    return eventually(seconds(15), [&] {
      if (agent_->ctl({"sources"}).code != 0) return false;  // it is not up yet
      const Json relay = agent_->json({"status"})["relay"];
      return relay.is_object() && relay.value("connected", false) && relay["listeners"].size() == services &&
             std::ranges::all_of(relay["listeners"], [](const Json& one) { return one["state"] == "listening"; });
    });
  }

  /// "web1", or the errno of the failure as text; and that the application saw the address it asked for.
  std::string ask(const Host& from, const std::string& address = "240.64.0.10:443", Via via = Via::kTcp) {
    const Call made = call(lab_->on(from, "apps"), via, address, 1, seconds(5)).at(0);
    if (made.errnum != 0) return made.errnum == ECONNREFUSED ? "refused" : made.errnum == ECONNRESET ? "reset" : "?";
    EXPECT_NE(made.peer.find(address), std::string::npos) << made.peer;
    return made.backend;
  }
  bool answers(const Host& from) {
    return eventually(seconds(10), [&] { return ask(from).starts_with("web"); });
  }
  Json listener(const std::string& name) {
    for (const Json& one : agent_->json({"status"})["relay"]["listeners"]) {
      if (one["name"] == name) return one;
    }
    return {};
  }
  std::uint64_t failures(const std::string& name, const std::string& reason) {
    for (const Json& one : listener(name)["failed"]) {
      if (one["name"] == reason) return one["count"].get<std::uint64_t>();
    }
    return 0;
  }

  /// Asks now and then, and gets no answer, until the relay counts this reason: it reports each second.
  bool fails_for(const std::string& reason) {
    for (int i = 0; i < 10; ++i) {
      const std::string got = ask(*pod_);
      EXPECT_FALSE(got.starts_with("web")) << got;
      if (eventually(seconds(2), [&] { return failures("pay:443", reason) > 0; })) return true;
    }
    return false;
  }

  Host* pod_ = nullptr;
  CertificatePem authority_;
  std::string ca_;
  Process resident_;
  std::vector<Process> backends_;
  std::unique_ptr<RelayProcess> relay_;
};

TEST_F(OriginateTest, plain_clients_of_the_node_and_of_a_pod_reach_tls_servers_of_both_families) {
  for (const Host* host : hosts_) serve(*host, "pay");
  start(body());
  ASSERT_TRUE(answers(*node_));
  ASSERT_TRUE(answers(*pod_));
  for (const Host* from : {node_, pod_}) {
    std::set<std::string> names;
    for (int i = 0; i < 4; ++i) names.insert(ask(*from));
    EXPECT_EQ(names, (std::set<std::string>{"web1", "web2"})) << "the relay balances as the service says";
    EXPECT_TRUE(ask(*from, "[fd6d::10]:443").starts_with("web"));
    const Call mapped = call(lab_->on(*from, "apps"), Via::kTcpMapped, "240.64.0.10:443", 1, seconds(5)).at(0);
    EXPECT_TRUE(mapped.backend.starts_with("web")) << mapped.errnum;
  }
  // A connection that lives is shown with its path; one that ended too.
  const Process open =
      Process::start(lab_->on(*pod_, "apps"), {"bash", "-c", "exec 3<>/dev/tcp/240.64.0.10/443; sleep 60"});
  ASSERT_TRUE(eventually(seconds(5), [&] { return !agent_->json({"connections"})["items"].empty(); }));
  const Json connection = agent_->json({"connections"})["items"][0];
  EXPECT_EQ(connection["path"], "relay");
  EXPECT_EQ(connection["service"], "pay");
  EXPECT_EQ(connection["frontend"], "240.64.0.10:443/tcp");
  EXPECT_EQ(agent_->json({"flows"})["items"][0]["path"], "relay");
  EXPECT_TRUE(eventually(seconds(5), [&] { return listener("pay:443").value("relayed", 0) >= 10; }));
  for (int i = 0; i < 12; ++i) EXPECT_TRUE(ask(*pod_).starts_with("web"));
  EXPECT_TRUE(eventually(seconds(5), [&] { return listener("pay:443").value("resumed", 0) > 0; }))
      << "each worker has its sessions with each endpoint: " << listener("pay:443");
  EXPECT_NE(agent_->http("/metrics").find("mesh_relay_handshakes_total{listener=\"pay:443\",version=\"TLSv1.3\""),
            std::string::npos);
  EXPECT_TRUE(agent_->json({"bpf", "diff"}).value("in_sync", false)) << agent_->json({"bpf", "diff"});
}

TEST_F(OriginateTest, servers_that_are_not_who_they_should_be_get_nothing_and_the_cause_is_named) {
  struct Case {
    std::string pair, tls, reason, remedy;
  };
  const std::vector<Case> cases{
      {"old", "", "certificate: certificate expired", "renew the certificate"},
      {"self", "", "certificate: self-signed certificate", "set tls.ca"},
      {"pay", "server_name: other.test", "certificate: name mismatch", "its certificate is for pay.test"},
  };
  serve(*hosts_[0], "old");
  start(body());
  for (const Case& one : cases) {
    SCOPED_TRACE(one.reason);
    backends_.clear();
    serve(*hosts_[0], one.pair);
    serve(*hosts_[1], one.pair);
    std::string text = body();
    if (!one.tls.empty()) {
      for (std::size_t at = 0; (at = text.find("server_name: pay.test", at)) != std::string::npos; ++at) {
        text.replace(at, std::string("server_name: pay.test").size(), one.tls);
      }
      agent_->reconfigure(text);
    }
    ASSERT_TRUE(fails_for(one.reason)) << listener("pay:443");
    EXPECT_NE(relay_->log().find(one.remedy), std::string::npos);
  }
  // The system knows nobody of this lab.
  agent_->reconfigure(
      fmt::format("services: [{{name: pay, address: \"240.64.0.10:443\", endpoints: {}, tls: {{server_name: "
                  "pay.test}}}}]\n",
                  endpoints(kPort)));
  EXPECT_TRUE(fails_for("certificate: unknown issuer")) << listener("pay:443");
}

TEST_F(OriginateTest, a_server_that_wants_a_certificate_gets_it_and_one_without_tls_gets_nothing) {
  serve(*hosts_[0], "pay", {ca_});
  serve(*hosts_[1], "pay", {ca_});
  start(body(fmt::format("certificate: {}, key: {}", file("client.crt"), file("client.key"))));
  EXPECT_TRUE(answers(*pod_));
  agent_->reconfigure(body());
  EXPECT_TRUE(eventually(seconds(10), [&] { return ask(*pod_) == "reset"; }));
  backends_.clear();
  const IdentifyServer plain(*lab_, *hosts_[0]);  // its own ports
  agent_->reconfigure(
      fmt::format("services: [{{name: pay, address: \"240.64.0.10:443\", endpoints: [\"{}\"], tls: "
                  "originate}}]\n",
                  hosts_[0]->v4(7000)));
  EXPECT_TRUE(fails_for("tls: not_tls")) << listener("pay:443");
}

/// Opens connections to pay and holds them; says "NAME" of each one's server, and "end NAME" when it ended.
constexpr const char* kHolder = R"(
import selectors, socket, sys
ready = selectors.DefaultSelector()
for _ in range(int(sys.argv[1])):
    s = socket.create_connection(('240.64.0.10', 443))
    name = s.makefile().readline().strip()
    print(name, flush=True)
    ready.register(s, selectors.EVENT_READ, name)
while True:
    for key, _ in ready.select():
        try:
            key.fileobj.recv(1)
        except OSError:
            pass
        print('end', key.data, flush=True)
        ready.unregister(key.fileobj)
)";

TEST_F(OriginateTest, connections_to_a_drained_endpoint_end_after_its_timeout_and_no_others) {
  for (const Host* host : hosts_) serve(*host, "pay");
  std::string text = body();
  text.replace(text.find("balance: round_robin"), 0, "drain_timeout: 2s, ");
  start(text);
  ASSERT_TRUE(answers(*pod_));
  const Process holder = Process::start(lab_->on(*pod_, "apps", "held.log"), {"python3", "-c", kHolder, "6"});
  const auto said = [&](const std::string& line) {
    std::ifstream in(file("held.log"));
    int count = 0;
    for (std::string one; std::getline(in, one);) count += one == line;
    return count;
  };
  ASSERT_TRUE(eventually(seconds(10), [&] { return said("web1") + said("web2") == 6; }));
  const int to_first = said("web1");
  ASSERT_GT(to_first, 0);
  ASSERT_GT(said("web2"), 0);
  const auto drain = [&](const std::string& what) -> Json {
    for (const Json& one : agent_->json({"drain", "--list"})["items"]) {
      if (one["endpoint"] == hosts_[0]->v4(kPort)) return one[what];
    }
    return {};
  };
  ASSERT_EQ(agent_->ctl({"drain", "pay", hosts_[0]->v4(kPort)}).code, 0);
  EXPECT_TRUE(eventually(seconds(5), [&] { return drain("connections") == to_first; })) << drain("connections");
  EXPECT_EQ(said("end web1"), 0) << "not before its time";
  EXPECT_TRUE(eventually(seconds(10), [&] { return said("end web1") == to_first; })) << file("held.log");
  EXPECT_TRUE(eventually(seconds(5), [&] { return drain("connections") == 0; })) << drain("connections");
  EXPECT_NE(agent_->log().find(fmt::format("\"reason\":\"drained\",\"connections\":{}}}", to_first)),
            std::string::npos);
  EXPECT_EQ(said("end web2"), 0);
  EXPECT_NE(agent_->http("/metrics")
                .find(fmt::format("mesh_relay_ended_total{{listener=\"pay:443\",how=\"endpoint left\"}} {}", to_first)),
            std::string::npos);
}

TEST_F(OriginateTest, an_endpoint_that_fails_behind_the_relay_is_ejected) {
  for (const Host* host : hosts_) serve(*host, "pay");
  std::string text = body();
  text.replace(text.find("balance: round_robin"), 0, "ejection: {consecutive_failures: 3, base_time: 60s}, ");
  start(text);
  ASSERT_TRUE(answers(*pod_));
  const auto state = [&] {
    for (const Json& item : agent_->json({"endpoints", "pay"})["items"]) {
      if (item["address"] == hosts_[0]->v4(kPort)) return item;
    }
    return Json{};
  };
  EXPECT_EQ(state()["ejection"], "");
  backends_[0].kill();
  // Somebody else's certificate: TLS fails, connect() does not.
  const Process other =
      Process::start(lab_->on(*hosts_[0], "servers", "backends.log"),
                     {"python3", tls_backend(), "web1", file("self.crt"), file("self.key"), std::to_string(kPort)});
  EXPECT_TRUE(eventually(seconds(30),
                         [&] {
                           EXPECT_EQ(ask(*pod_), "web2") << "another is tried";
                           return state()["ejection"] == "ejected";
                         }))
      << state() << agent_->log();
  EXPECT_NE(agent_->log().find("TLS failed"), std::string::npos);
  const auto retries = [&] { return listener("pay:443").value("retries", 0); };
  std::this_thread::sleep_for(seconds(2));  // the relay has its orders, and its report is newer
  const int before = retries();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ask(*pod_), "web2");
  std::this_thread::sleep_for(seconds(2));
  EXPECT_EQ(retries(), before) << "it is not asked any more";
}

TEST_F(OriginateTest, old_connections_end_where_the_service_says_so) {
  for (const Host* host : hosts_) serve(*host, "pay");
  std::string text = body();
  text.replace(text.find("balance: round_robin"), 0, "max_connection_age: 2s, ");
  start(text);
  ASSERT_TRUE(answers(*pod_));
  const Process holder = Process::start(lab_->on(*pod_, "apps", "held.log"), {"python3", "-c", kHolder, "2"});
  const auto ended = [&] {
    for (const Json& one : listener("pay:443")["ended"]) {
      if (one["name"] == "max_age") return one["count"].get<int>();
    }
    return 0;
  };
  EXPECT_TRUE(eventually(seconds(15), [&] { return ended() == 2; })) << listener("pay:443");
}

TEST_F(OriginateTest, without_a_relay_connections_are_refused_and_plain_services_go_on) {
  for (const Host* host : hosts_) serve(*host, "pay");
  const IdentifyServer plain(*lab_, *hosts_[0]);
  const std::string more =
      fmt::format("  - {{name: plain, address: \"240.64.0.20:80\", endpoints: [\"{}\"]}}\n", hosts_[0]->v4(7000));
  start(body() + more);
  ASSERT_TRUE(answers(*pod_));
  ConnectLoop loop(lab_->on(*pod_, "apps"), {{Via::kTcp, "240.64.0.20:80"}});
  // Killed, and started again at once: who comes meanwhile waits.
  relay_->kill();
  std::string meanwhile;
  std::thread waiting([&] { meanwhile = ask(*pod_); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  relay_->start();
  waiting.join();
  EXPECT_TRUE(meanwhile.starts_with("web")) << meanwhile;
  // Away for good.
  relay_->kill();
  EXPECT_TRUE(eventually(seconds(20), [&] { return ask(*pod_) == "refused"; }));
  EXPECT_EQ(ask(*node_), "refused");
  EXPECT_NE(agent_->http("/metrics").find("mesh_reasons_total{reason=\"relay_absent\"}"), std::string::npos);
  relay_->start();
  EXPECT_TRUE(answers(*pod_));
  // The agent goes and comes: connections go on meanwhile, and it finds the sockets again.
  agent_->kill();
  EXPECT_TRUE(ask(*pod_).starts_with("web"));
  agent_->start();
  ASSERT_TRUE(agent_->await_healthy()) << agent_->ctl({"status"}).text;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ask(*pod_).starts_with("web"));
  // Both at once: nobody is there, and nothing goes out.
  agent_->kill();
  relay_->kill();
  EXPECT_TRUE(eventually(seconds(10), [&] {  // the kernel closes the sockets of a dead ring a little later
    const std::string got = ask(*pod_);
    EXPECT_TRUE(got == "refused" || got == "reset") << got;
    return got == "refused";
  }));
  const auto counts = loop.finish();
  EXPECT_EQ(counts[0].failures, 0U) << counts[0].first_errno;
}

TEST_F(OriginateTest, restarts_and_upgrades_of_both_processes_break_nothing) {
  for (const Host* host : hosts_) serve(*host, "pay");
  start(body());
  ASSERT_TRUE(answers(*pod_));
  std::atomic<bool> stop = false;
  std::atomic<int> asked = 0;
  std::vector<std::string> failures;
  std::thread client([&] {
    while (!stop) {
      const std::string got = ask(*pod_);
      if (!got.starts_with("web")) failures.push_back(got);
      ++asked;
    }
  });
  const auto some_more = [&] {
    const int before = asked;
    EXPECT_TRUE(eventually(seconds(10), [&] { return asked > before + 10; }));
  };
  some_more();
  agent_->kill();
  some_more();
  agent_->start();
  EXPECT_TRUE(agent_->await_healthy());
  some_more();
  if (const std::string next = built_next_meshd(); !next.empty()) {
    agent_->terminate();
    agent_->use_program(next);
    agent_->start();
    EXPECT_TRUE(agent_->await_healthy());
    some_more();
  }
  relay_->start_successor();
  EXPECT_TRUE(eventually(seconds(10), [&] { return agent_->json({"status"})["relay"]["pid"] == relay_->pid(); }));
  some_more();
  stop = true;
  client.join();
  EXPECT_EQ(failures, std::vector<std::string>{});
}

TEST_F(OriginateTest, who_has_the_port_first_is_no_relay_and_is_named) {
  for (const Host* host : hosts_) serve(*host, "pay");
  const Process impostor =
      Process::start(lab_->on(*pod_, "apps"), {"python3", "-c",
                                               fmt::format("import socket\n"
                                                           "s = socket.create_server(('127.0.0.1', {}))\n"
                                                           "while True:\n"
                                                           "    c, _ = s.accept()\n"
                                                           "    c.sendall(b'impostor\\n')\n",
                                                           kFirstPort)});
  ASSERT_TRUE(eventually(seconds(5), [&] {
    return run({"bash", "-c", fmt::format("exec 3<>/dev/tcp/127.0.0.1/{}", kFirstPort)}, lab_->on(*pod_)).code == 0;
  }));
  start(body());
  ASSERT_TRUE(answers(*node_)) << "elsewhere the port is free";
  EXPECT_EQ(ask(*pod_), "refused");
  EXPECT_TRUE(eventually(seconds(5), [&] {
    const Json errors = agent_->json({"status"})["relay"]["socket_errors"];
    return !errors.empty() && errors[0].get<std::string>().find("another process listens") != std::string::npos;
  })) << agent_->json({"status"})["relay"];
  const_cast<Process&>(impostor).kill();
  EXPECT_TRUE(answers(*pod_)) << "the port is free now";
}

TEST_F(OriginateTest, sockets_come_with_a_namespace_and_go_with_it) {
  for (const Host* host : hosts_) serve(*host, "pay");
  start(body());
  const auto held = [&] { return run({"ss", "-Hltn", fmt::format("sport = :{}", kFirstPort)}, lab_->on(*pod_)).text; };
  ASSERT_TRUE(eventually(seconds(5), [&] { return !held().empty(); }));
  resident_.kill();
  EXPECT_TRUE(eventually(seconds(5), [&] { return held().empty(); })) << "it would keep the namespace alive";
  resident_ = Process::start(lab_->on(*pod_, "apps"), {"sleep", "1000"});
  EXPECT_TRUE(eventually(seconds(5), [&] { return !held().empty(); }));
  EXPECT_TRUE(ask(*pod_).starts_with("web"));
}

}  // namespace
}  // namespace mesh::test
