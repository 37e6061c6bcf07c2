// SPDX-License-Identifier: Apache-2.0
// What an operator asks and does: explain, pause, check, and a status that is proven.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "datapath/loader.hpp"
#include "tests/support/agent_test.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/links.hpp"
#include "tests/support/truth_trial.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr int kConnects = 1000;

class OperatorTest : public AgentTest {
 protected:
  /// Name of the server at an endpoint address.
  std::string server_at(const std::string& address) const {
    for (const Host* host : hosts_) {
      if (host->v4(7000) == address) return host->name();
    }
    return "?";
  }
};

TEST_F(OperatorTest, explain_agrees_with_a_thousand_real_connects) {
  add_servers(3);
  std::string body = "services:\n";
  int number = 10;
  for (const char* balance : {"weighted_random", "round_robin", "maglev", "source_hash"}) {
    body += fmt::format(
        "  - {{name: {0}, address: \"240.64.0.{1}:80\", balance: {0}, endpoints: [{{address: \"{2}\", weight: 5}}, "
        "{{address: \"{3}\", weight: 3}}, {{address: \"{4}\", weight: 2}}]}}\n",
        balance, number++, hosts_[0]->v4(7000), hosts_[1]->v4(7000), hosts_[2]->v4(7000));
  }
  start_agent({.body = body});
  number = 10;
  for (const std::string balance : {"weighted_random", "round_robin", "maglev", "source_hash"}) {
    const Json explain = agent_->json({"explain", balance, "--from", lab_->cgroup_path("apps")});
    ASSERT_EQ(explain["results"].size(), 1U) << explain.dump(1);
    const Json& result = explain["results"][0];
    EXPECT_EQ(result["decision"], "balanced") << explain.dump(1);
    const auto counts = tally(call(app(), Via::kTcp, fmt::format("240.64.0.{}:80", number++), kConnects));
    if (result["choice"] == "fixed") {
      const std::string expected = server_at(result["pick"]);
      EXPECT_EQ(counts, (std::map<std::string, int>{{expected, kConnects}})) << balance;
      continue;
    }
    double chi_square = 0;
    for (const Json& endpoint : result["endpoints"]) {
      const double expected = endpoint["share"].get<double>() * kConnects;
      const auto found = counts.find(server_at(endpoint["address"]));
      const double seen = found == counts.end() ? 0 : found->second;
      ASSERT_GT(expected, 0) << balance << " " << explain.dump(1);
      chi_square += (seen - expected) * (seen - expected) / expected;
      if (balance == "round_robin") EXPECT_NEAR(seen, expected, 1) << endpoint["address"];
    }
    EXPECT_LT(chi_square, 18.4) << balance << ": two degrees of freedom, p = 0.0001";
  }
}

TEST_F(OperatorTest, pause_passes_through_and_reverts_by_itself) {
  add_servers(1);
  start_agent(
      {.body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000))});
  const auto errnum = [&] { return call(app(), Via::kTcp, kVip, 1)[0].errnum; };
  ASSERT_EQ(errnum(), 0);
  const Output paused = agent_->ctl({"pause", "web", "--for", "2s"});
  ASSERT_EQ(paused.code, 0) << paused.text << paused.errors;
  EXPECT_EQ(errnum(), ENETUNREACH);
  agent_->kill();  // the revert needs no agent
  EXPECT_TRUE(eventually(seconds(4), [&] { return errnum() == 0; }));
  agent_->start_healthy();
  ASSERT_EQ(agent_->ctl({"pause", "--for", "10m"}).code, 0);
  EXPECT_EQ(errnum(), ENETUNREACH);
  ASSERT_EQ(agent_->ctl({"resume"}).code, 0);
  EXPECT_EQ(errnum(), 0);
}

TEST_F(OperatorTest, check_works_without_an_agent) {
  const Output checked = run({built_program("meshctl"), "check"}, lab_->on(*node_, "operator"));
  EXPECT_EQ(checked.code, 0) << checked.text << checked.errors;
}

TEST_F(OperatorTest, a_command_run_as_a_cgroup_is_balanced) {
  add_servers(1);
  start_agent(
      {.body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(8080))});
  const Output output =
      agent_->ctl({"run", "--as", lab_->cgroup_path("apps"), "--", "curl", "-s", "http://240.64.0.10/"});
  EXPECT_EQ(output.code, 0) << output.errors;
  EXPECT_EQ(output.text, "web1\n");
}

TEST_F(OperatorTest, ready_is_told_when_the_status_is_proven) {
  add_servers(1);
  const std::string path = lab_->folder() / "notify.sock";
  const base::Fd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.copy(address.sun_path, sizeof(address.sun_path) - 1), sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  agent_ = std::make_unique<Agent>(
      *lab_, *node_,
      AgentSpec{
          .body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000)),
          .environment = {"NOTIFY_SOCKET=" + path}});
  agent_->start();
  pollfd readable{manager.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&readable, 1, 10'000), 1);
  char message[128] = {};
  ASSERT_GT(::recv(manager.get(), message, sizeof(message) - 1, 0), 0);
  EXPECT_TRUE(std::string_view(message).starts_with("READY=1")) << message;
  const Json status = agent_->json({"status"});
  EXPECT_EQ(status["state"], "healthy") << status.dump(1);
  EXPECT_FALSE(status["hooks"].empty());
  for (const Json& canary : status["canary"]) EXPECT_EQ(canary["result"], "ok") << status.dump(1);
  EXPECT_EQ(call(app(), Via::kTcp, kVip, 1)[0].errnum, 0);
  EXPECT_EQ(agent_->log().find("canary failed"), std::string::npos) << "it was not asked before its table was there";
}

TEST_F(OperatorTest, a_cgroup_where_nothing_runs_is_noted_until_something_does) {
  add_servers(1);
  start_agent(
      {.body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000))});
  const auto status_says = [&](bool empty) {
    return eventually(seconds(5), [&] {
      return (agent_->ctl({"status"}).text.find("cgroup_empty: nothing runs in " + lab_->cgroup_path("apps")) !=
              std::string::npos) == empty;
    });
  };
  EXPECT_TRUE(status_says(true));
  EXPECT_EQ(agent_->ctl({"status"}).code, 0) << "a mesh may be there before its service";
  EXPECT_TRUE(agent_->http("/readyz").starts_with("200"));
  const auto check = [&] { return agent_->meshd({"check", "--config", agent_->config_file()}).text; };
  EXPECT_NE(check().find("nothing runs in it"), std::string::npos) << check();
  const Process application = Process::start(app(), {"sleep", "60"});
  EXPECT_TRUE(status_says(false));
  EXPECT_EQ(check().find("nothing runs in it"), std::string::npos) << check();
}

TEST_F(OperatorTest, known_lies_show_within_five_seconds) {
  run_truth_trial([](const TruthFinding& finding) {
    EXPECT_TRUE(finding.shown) << finding.lie << ": " << finding.witness << " " << finding.detail;
  });
}

TEST_F(OperatorTest, what_is_pinned_is_told_alike_with_the_agent_alive_and_dead) {
  add_servers(2);
  start_agent({.body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n"
                                   "  - {{name: nobody, address: \"240.64.0.99:80\", endpoints: []}}\n",
                                   kVip, endpoints(7000))});
  const auto names_of = [](const Json& maps) {
    std::set<std::string> names;
    for (const Json& map : maps) {
      names.insert(map["name"].get<std::string>());
      EXPECT_GT(map["bytes"].get<std::uint64_t>(), 0U) << map.dump();
    }
    return names;
  };
  std::set<std::string> pins;
  for (const auto& entry : std::filesystem::directory_iterator(agent_->bpffs() + "/current/"))
    pins.insert(entry.path().filename());
  const Json alive = agent_->json({"status"});
  EXPECT_EQ(names_of(alive["maps"]), pins);
  EXPECT_EQ(alive["services"], 2);
  EXPECT_NE(agent_->ctl({"status"}).text.find("healthy  1 service refuses  "), std::string::npos);
  EXPECT_NE(agent_->http("/metrics").find("mesh_map_memory_bytes{map=\"events\"}"), std::string::npos);

  agent_->kill();
  const Json dead = agent_->json({"--bpffs", agent_->bpffs(), "status"});  // without the configuration
  EXPECT_EQ(dead["state"], "agent_down");
  EXPECT_EQ(names_of(dead["maps"]), pins);
  for (const char* same : {"services", "endpoints"}) EXPECT_EQ(dead[same], alive[same]) << same;
  ASSERT_EQ(dead["hooks"].size(), alive["hooks"].size()) << dead["hooks"].dump(1);
  for (const Json& hook : dead["hooks"]) EXPECT_TRUE(hook["effective"].get<bool>()) << hook.dump();
}

TEST_F(OperatorTest, what_others_changed_is_put_right_and_said) {
  add_servers(1);
  start_agent(
      {.agent_yaml = "  audit_interval: 1s\n",
       .body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000))});
  const auto maps = datapath::open_pinned_maps(agent_->bpffs(), datapath::Access::kWrite);
  ASSERT_TRUE(maps) << maps.error().to_string();
  for (std::uint32_t id = 1; id < 8; ++id) maps->store_state(id, 0);
  const auto says = [&](const std::vector<std::string>& arguments, const std::string& text) {
    return eventually(seconds(5), [&] { return agent_->ctl(arguments).text.find(text) != std::string::npos; });
  };
  EXPECT_TRUE(says({"history"}, "kernel tables differed from what was applied: ")) << agent_->ctl({"history"}).text;
  EXPECT_TRUE(says({"status"}, "desired = kernel, compared ")) << agent_->ctl({"status"}).text;
  EXPECT_EQ(agent_->ctl({"history", "nosuch"}).code, 4);
  EXPECT_EQ(agent_->ctl({"connections", "--state", "foo"}).code, 2);

  const std::string pin = agent_->bpffs() + "/links/trace-error";
  if (!std::filesystem::exists(pin)) GTEST_SKIP() << "SKIPPED: this kernel takes no programs on the tracepoints";
  std::filesystem::remove(pin);
  EXPECT_TRUE(eventually(seconds(5), [&] { return std::filesystem::exists(pin); }));
  EXPECT_TRUE(eventually(seconds(5), [&] { return agent_->log().find("hooks attached") != std::string::npos; }))
      << agent_->log();
  EXPECT_TRUE(says({"bpf", "stats"}, "inet_sk_error_report"));
}

TEST_F(OperatorTest, metrics_are_read_over_tls_and_a_bad_certificate_leaves_the_old_one) {
  add_servers(1);
  const auto in_a_day = std::chrono::system_clock::now() + std::chrono::hours(24);
  const auto first = make_certificate("metrics.test", in_a_day);
  const auto second = make_certificate("metrics.test", in_a_day);
  const std::string certificate = lab_->write_file("metrics.pem", first.certificate);
  const std::string key = lab_->write_file("metrics.key", first.key);
  const std::string first_ca = lab_->write_file("first.pem", first.certificate);
  const std::string second_ca = lab_->write_file("second.pem", second.certificate);
  start_agent(
      {.metrics = fmt::format("listen: \"{}\", tls: {{certificate: {}, key: {}}}", node_->v4(9464), certificate, key),
       .body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000))});
  const auto scrape = [&](const std::string& ca) {
    return run({"curl", "-sS", "-m", "5", "--cacert", ca, "--resolve", "metrics.test:9464:" + node_->v4(),
                "https://metrics.test:9464/metrics"},
               lab_->on(*hosts_[0], "scraper"));
  };
  const Output metrics = scrape(first_ca);
  ASSERT_EQ(metrics.code, 0) << metrics.errors;
  EXPECT_NE(metrics.text.find("mesh_metrics_certificate_refused 0"), std::string::npos) << metrics.text;
  EXPECT_EQ(scrape(second_ca).code, 60) << "curl: the certificate can't be verified";
  EXPECT_NE(
      run({"curl", "-sS", "-m", "5", "http://" + node_->v4(9464) + "/metrics"}, lab_->on(*hosts_[0], "scraper")).code,
      0);

  std::ofstream(certificate) << second.certificate;  // and the key is still the first one's
  ASSERT_TRUE(eventually(
      seconds(5), [&] { return agent_->ctl({"status"}).text.find("certificate_refused") != std::string::npos; }));
  EXPECT_EQ(scrape(first_ca).code, 0);
  std::ofstream(key) << second.key;
  ASSERT_TRUE(eventually(seconds(5), [&] { return scrape(second_ca).code == 0; }));
  EXPECT_EQ(agent_->ctl({"status"}).text.find("certificate_"), std::string::npos);
}

TEST_F(OperatorTest, metrics_satisfy_promtool) {
  if (!have_program("promtool")) GTEST_SKIP() << "promtool is not installed (scripts/setup --interop)";
  add_servers(1);
  start_agent(
      {.body = fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(7000))});
  const std::string answer = agent_->http("/metrics");
  ASSERT_TRUE(answer.starts_with("200\n")) << answer;
  const std::string file = lab_->write_file("metrics.txt", answer.substr(4));
  const Output checked = run({"bash", "-c", "promtool check metrics < " + file});
  EXPECT_EQ(checked.code, 0) << checked.text << checked.errors;
}

}  // namespace
}  // namespace mesh::test
