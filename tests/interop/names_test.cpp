// SPDX-License-Identifier: Apache-2.0
// Names of services for programs that know nothing of us: dig, getent and curl, with dnsmasq as their resolver.
#include <fmt/format.h>

#include <filesystem>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << name << " is not installed (scripts/setup --interop)"

class NamesTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (!lab_) return;
    for (const char* program : {"dig", "dnsmasq", "curl", "getent"}) NEED_PROGRAM(program);
    add_servers(1);
    dns_ = &lab_->add_host("dns");
    resolver_ =
        Process::start(lab_->on(*dns_, "servers", "dnsmasq.log"),
                       {"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts",
                        "--local=/mesh/", "--address=/www.example.test/192.0.2.7",
                        "--txt-record=long.example.test," + std::string(200, 'x'),
                        "--txt-record=long.example.test," + std::string(200, 'y'), "--txt-record=long.example.test,z"});
    ASSERT_TRUE(eventually(seconds(10), [&] { return dig("others", {"www.example.test"}) == "192.0.2.7"; }))
        << dig("others", {"www.example.test"});
    start_agent(
        {.agent_yaml = fmt::format("  names: {{enabled: true, resolvers: [\"{}\", \"{}\"]}}\n", dns_->v4(), dns_->v6()),
         .body = fmt::format("services:\n"
                             "  - {{name: orders, address: \"240.64.0.10:80\", endpoints: {}}}\n"
                             "  - {{name: shop/cart, address: \"240.64.0.11:80\", endpoints: {}}}\n",
                             endpoints(8080), endpoints(8080))});
    ASSERT_TRUE(eventually(seconds(5), [&] { return dig("apps", {"orders.mesh"}) == "240.64.0.10"; })) << agent_->log();
  }
  void TearDown() override {
    resolver_.kill();
    AgentTest::TearDown();
  }

  /// What dig prints with +short, lines joined by spaces; its error where there is none.
  std::string dig(const std::string& cgroup, std::vector<std::string> arguments, const Host* host = nullptr) {
    std::vector<std::string> argv{"dig", "@" + dns_->v4(), "+short", "+time=2", "+tries=1"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const Output output = run(argv, lab_->on(host != nullptr ? *host : *node_, cgroup));
    std::string text = output.text;
    while (text.ends_with('\n')) text.pop_back();
    for (char& c : text) c = c == '\n' ? ' ' : c;
    return text;
  }
  /// The status of an answer: NOERROR, NXDOMAIN, ...
  std::string status(const std::string& cgroup, const std::string& name) {
    const Output output = run({"dig", "@" + dns_->v4(), "+time=2", "+tries=1", name}, lab_->on(*node_, cgroup));
    const auto at = output.text.find("status: ");
    return at == std::string::npos ? output.text : output.text.substr(at + 8, output.text.find(',', at) - at - 8);
  }
  /// Runs a program with the resolver in its /etc/resolv.conf, as an application of that cgroup.
  Output with_resolv_conf(const std::vector<std::string>& argv, const std::string& cgroup = "apps") {
    const std::string file = lab_->write_file("resolv.conf", "nameserver " + dns_->v4() + "\n");
    std::vector<std::string> all{
        "unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"", file};
    all.insert(all.end(), argv.begin(), argv.end());
    return run(all, lab_->on(*node_, cgroup));
  }

  Host* dns_ = nullptr;
  Process resolver_;
};

TEST_F(NamesTest, dig_finds_services_by_udp_tcp_and_ipv6) {
  EXPECT_EQ(dig("apps", {"+tcp", "orders.mesh"}), "240.64.0.10");
  EXPECT_EQ(dig("apps", {"cart.shop.mesh"}), "240.64.0.11");
  EXPECT_EQ(dig("apps", {"+edns=0", "ORDERS.Mesh", "A"}), "240.64.0.10");
  EXPECT_EQ(dig("apps", {"+noedns", "orders.mesh", "A"}), "240.64.0.10");
  EXPECT_EQ(dig("apps", {"orders.mesh", "AAAA"}), "");
  EXPECT_EQ(dig("apps", {"_http._tcp.orders.mesh", "SRV"}), "0 1 80 orders.mesh.");
  EXPECT_EQ(dig("apps", {"-x", "240.64.0.10"}), "orders.mesh.");
  const Output v6 = run({"dig", "@" + dns_->v6(), "+short", "+time=2", "+tries=1", "orders.mesh"}, app());
  EXPECT_EQ(v6.text, "240.64.0.10\n") << v6.errors;
  EXPECT_EQ(status("apps", "missing.mesh"), "NXDOMAIN");
  EXPECT_EQ(status("apps", "orders.mesh"), "NOERROR");
}

TEST_F(NamesTest, everything_else_is_the_resolvers_own_answer) {
  const std::vector<std::vector<std::string>> questions = {
      {"www.example.test"},
      {"+tcp", "www.example.test"},
      {"www.example.test", "AAAA"},
      {"long.example.test", "TXT"},  // truncated by UDP, dig comes again by TCP
      {"+noedns", "+ignore", "long.example.test", "TXT"},
      {"+opcode=notify", "www.example.test"},
      {"+dnssec", "+nsid", "www.example.test"},
      {"-c", "CH", "version.bind", "TXT"},
      {"unknown.example.test"},
  };
  for (const auto& question : questions) {
    EXPECT_EQ(dig("apps", question), dig("others", question)) << testing::PrintToString(question);
  }
  EXPECT_EQ(dig("apps", {"www.example.test"}), "192.0.2.7");
  EXPECT_EQ(status("apps", "www.example.test"), "NOERROR");
  EXPECT_EQ(dig("others", {"orders.mesh"}), "") << "who is not in an attached cgroup is not answered";
}

TEST_F(NamesTest, programs_find_services_by_name) {
  const Output curl = with_resolv_conf({"curl", "-sS", "-m", "5", "http://orders.mesh/"});
  EXPECT_EQ(curl.code, 0) << curl.errors;
  EXPECT_EQ(curl.text.substr(0, curl.text.find('\n')), "web1");
  const Output getent = with_resolv_conf({"getent", "hosts", "cart.shop.mesh"});
  EXPECT_NE(getent.text.find("240.64.0.11"), std::string::npos) << getent.text << getent.errors;
  EXPECT_EQ(with_resolv_conf({"getent", "hosts", "www.example.test"}).text.substr(0, 9), "192.0.2.7");
  EXPECT_NE(with_resolv_conf({"getent", "hosts", "orders.mesh"}, "others").code, 0);
}

TEST_F(NamesTest, a_client_in_another_network_namespace_is_answered_there) {
  const Host& pod = lab_->add_host("pod");
  const Process application = Process::start(lab_->on(pod, "apps"), {"sleep", "60"});
  EXPECT_TRUE(eventually(seconds(5), [&] { return dig("apps", {"orders.mesh"}, &pod) == "240.64.0.10"; }))
      << agent_->log();
  EXPECT_EQ(dig("apps", {"www.example.test"}, &pod), "192.0.2.7") << "asked from the pod's own namespace";
}

TEST_F(NamesTest, without_the_agent_clients_are_back_at_their_resolver) {
  agent_->kill();
  EXPECT_EQ(dig("apps", {"www.example.test"}), "192.0.2.7");
  EXPECT_EQ(status("apps", "orders.mesh"), "NXDOMAIN") << "said by dnsmasq, at once";
  agent_->start_healthy();
  EXPECT_TRUE(eventually(seconds(5), [&] { return dig("apps", {"orders.mesh"}) == "240.64.0.10"; })) << agent_->log();
}

TEST_F(NamesTest, services_that_come_and_go_are_names_that_come_and_go) {
  agent_->reconfigure(
      fmt::format("services:\n  - {{name: carts, address: \"240.64.0.12:80\", endpoints: {}}}\n", endpoints(8080)));
  EXPECT_TRUE(eventually(seconds(5), [&] { return dig("apps", {"carts.mesh"}) == "240.64.0.12"; }));
  EXPECT_EQ(status("apps", "orders.mesh"), "NXDOMAIN");
  EXPECT_EQ(agent_->json({"services"})["items"].size(), 1U) << "stand-ins for resolvers are not listed";
  const std::string metrics = agent_->http("/metrics");
  EXPECT_NE(metrics.find("mesh_names_questions_total{result=\"negative\"}"), std::string::npos);
}

TEST_F(NamesTest, a_resolver_that_is_away_fails_at_once_and_one_that_hangs_costs_no_other) {
  resolver_.signal(SIGSTOP);
  std::vector<Process> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(Process::start(lab_->on(*node_, "apps", "waiting.log"),
                                     {"dig", "@" + dns_->v4(), "+time=20", "+tries=1", "www.example.test"}));
  }
  EXPECT_EQ(dig("apps", {"orders.mesh"}), "240.64.0.10") << "while others wait";
  resolver_.signal(SIGCONT);
  for (Process& process : waiting) EXPECT_EQ(process.wait(seconds(25)), 0) << "answered late, but answered";
  resolver_.kill();
  EXPECT_EQ(status("apps", "www.example.test"), "SERVFAIL");
}

}  // namespace
}  // namespace mesh::test
