// SPDX-License-Identifier: Apache-2.0
#include "tests/support/restart_trial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <thread>

#include "base/random.hpp"
#include "tests/support/agent.hpp"
#include "tests/support/identify_server.hpp"

namespace mesh::test {
namespace {

using std::chrono::microseconds;

constexpr int kPassers = 40;       ///< Services that come, go and change around the ones that are watched.
constexpr int kRoundsBetween = 5;  ///< Calls per target after each kill, so that no kill goes unobserved.
constexpr int kChangeWindowUs = 40'000;
constexpr auto kMinimumStart = std::chrono::milliseconds(20);

/// The watched services keep web1 and web2 always; web3, the weights and the passers change from version to version.
std::string body(const Host& web1, const Host& web2, const Host& web3, base::Random& random) {
  const bool third = random.below(2) == 0;
  const auto weight = [&] { return 1 + random.below(9); };
  std::string text = "defaults: {probe: {type: tcp, interval: 1s, timeout: 500ms}}\nservices:\n";
  const auto service = [&](const std::string& name, const std::string& address, const char* protocol,
                           const char* balance, auto endpoint_of) {
    text += fmt::format("  - {{name: {}, address: \"{}\", protocol: {}, balance: {}, endpoints: [", name, address,
                        protocol, balance);
    text += fmt::format("{{address: \"{}\", weight: {}}}, {{address: \"{}\", weight: {}}}", endpoint_of(web1), weight(),
                        endpoint_of(web2), weight());
    if (third) text += fmt::format(", {{address: \"{}\", weight: {}}}", endpoint_of(web3), weight());
    text += "]}\n";
  };
  const auto v4 = [](const Host& host) { return host.v4(7000); };
  const auto v6 = [](const Host& host) { return host.v6(7000); };
  service("tcp4", "240.64.0.10:80", "tcp", "weighted_random", v4);
  service("tcp6", "[fd6d:6573:6864::10]:80", "tcp", "maglev", v6);
  service("udp4", "240.64.0.10:53", "udp", "round_robin", v4);
  service("udp6", "[fd6d:6573:6864::10]:53", "udp", "weighted_random", v6);
  for (int i = 0; i < kPassers; ++i) {
    if (random.below(3) == 0) continue;
    service(fmt::format("passer{}", i), fmt::format("240.64.1.{}:80", i + 1), "tcp", "weighted_random", v4);
  }
  return text;
}

/// "frontend -> backend address" of the watched services and their lasting backends, with both ids.
std::map<std::string, std::string> lasting_ids(const Json& dump, const std::vector<std::string>& lasting) {
  std::map<std::uint32_t, std::string> watched;
  for (const Json& row : dump.at("frontends")) {
    const std::string frontend = row.at("frontend");
    if (frontend.find("240.64.0.10:") != std::string::npos ||
        frontend.find("fd6d:6573:6864::10]") != std::string::npos) {
      watched[row.at("service_id").get<std::uint32_t>()] = frontend;
    }
  }
  std::map<std::string, std::string> ids;
  for (const Json& row : dump.at("backends")) {
    const auto service = watched.find(row.at("service_id").get<std::uint32_t>());
    const std::string address = row.at("address");
    if (service == watched.end() || std::find(lasting.begin(), lasting.end(), address) == lasting.end()) continue;
    ids[service->second + " -> " + address] =
        fmt::format("service {} backend {} generation {}", service->first, row.at("id").get<std::uint32_t>(),
                    row.at("generation").get<std::uint32_t>());
  }
  return ids;
}

std::string last_lines(const std::string& log) {
  constexpr std::size_t kBytes = 1500;
  return log.substr(log.size() - std::min(log.size(), kBytes));
}

}  // namespace

std::uint64_t RestartReport::attempts() const {
  return std::accumulate(rows.begin(), rows.end(), std::uint64_t{0},
                         [](auto sum, const Row& row) { return sum + row.counts.attempts; });
}

std::uint64_t RestartReport::failures() const {
  return std::accumulate(rows.begin(), rows.end(), std::uint64_t{0},
                         [](auto sum, const Row& row) { return sum + row.counts.failures; });
}

RestartReport run_restart_trial(const RestartOptions& options) {
  base::Random random(options.seed);
  RestartReport report;
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web1 = lab.add_host("web1");
  Host& web2 = lab.add_host("web2");
  Host& web3 = lab.add_host("web3");
  IdentifyServer server1(lab, web1);
  IdentifyServer server2(lab, web2);
  IdentifyServer server3(lab, web3);
  std::vector<std::string> programs = options.programs;
  if (programs.empty()) programs.push_back(built_program("meshd"));

  Agent agent(lab, node, {.body = body(web1, web2, web3, random), .program = programs[0]});
  const auto before = std::chrono::steady_clock::now();
  agent.start_healthy();
  const auto start_takes =
      std::max<std::chrono::steady_clock::duration>(std::chrono::steady_clock::now() - before, kMinimumStart);
  const auto start_takes_us = static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(start_takes).count());

  const std::vector<std::string> lasting{web1.v4(7000), web2.v4(7000), web1.v6(7000), web2.v6(7000)};
  const auto ids = lasting_ids(agent.dump(), lasting);
  if (ids.size() != 8)
    report.faults.push_back(fmt::format("the first dump shows {} of 8 lasting backends", ids.size()));
  const std::vector<LoopTarget> targets{{Via::kTcp, "240.64.0.10:80"},
                                        {Via::kTcpMapped, "240.64.0.10:80"},
                                        {Via::kTcp, "[fd6d:6573:6864::10]:80"},
                                        {Via::kUdpConnected, "240.64.0.10:53"},
                                        {Via::kUdpUnconnected, "240.64.0.10:53"},
                                        {Via::kUdpConnected, "[fd6d:6573:6864::10]:53"},
                                        {Via::kUdpUnconnected, "[fd6d:6573:6864::10]:53"}};
  ConnectLoop loop(lab.on(node, "apps"), targets);

  std::size_t program = 0;
  for (int kill = 1; kill <= options.kills; ++kill) {
    const bool while_starting = !agent.running() || random.below(2) == 0;
    if (while_starting) {
      if (agent.running()) agent.kill();
      if (const std::size_t next = random.below(programs.size()); next != program) {
        program = next;
        agent.use_program(programs[program]);
        ++report.program_changes;
      }
      agent.reconfigure(body(web1, web2, web3, random));
      agent.start();
      std::this_thread::sleep_for(microseconds(random.below(start_takes_us)));
      ++report.kills_starting;
    } else {
      agent.reconfigure(body(web1, web2, web3, random));
      std::this_thread::sleep_for(microseconds(random.below(kChangeWindowUs)));
      ++report.kills_applying;
    }
    agent.kill();
    if (!loop.await_rounds(kRoundsBetween)) report.faults.push_back(fmt::format("kill {}: clients hang", kill));
    if (const auto now = lasting_ids(agent.dump(), lasting); now != ids) {
      for (const auto& [name, id] : ids) {
        const auto found = now.find(name);
        const std::string text = found == now.end() ? "gone" : found->second;
        if (text != id) report.faults.push_back(fmt::format("kill {}: {}: was {}, is {}", kill, name, id, text));
      }
    }
    if (random.below(2) == 0) {  // half of the next kills hit an agent that runs, half one that starts from the dead
      agent.start();
      if (!agent.await_healthy()) {
        report.faults.push_back(fmt::format("kill {}: the agent does not become healthy again: {}{}", kill,
                                            agent.ctl({"status"}).text, last_lines(agent.log())));
      }
    }
    if (options.progress)
      options.progress(kill, fmt::format("{} connects, {} failed", loop.attempts(), loop.failures()));
    if (report.faults.size() > 20) break;
  }
  const auto counts = loop.finish();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    report.rows.push_back({fmt::format("{} {}", to_string(targets[i].via), targets[i].address), counts[i]});
  }
  return report;
}

}  // namespace mesh::test
