// SPDX-License-Identifier: Apache-2.0
#include "tests/support/truth_trial.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <regex>
#include <stdexcept>
#include <vector>

#include "datapath/book_audit.hpp"
#include "datapath/loader.hpp"
#include "datapath/records.hpp"
#include "tests/support/agent.hpp"
#include "tests/support/client.hpp"
#include "tests/support/identify_server.hpp"
#include "tests/support/links.hpp"

namespace mesh::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDegraded = 3;
constexpr int kOwners = 64;

/// A lab with a healthy agent and one service with one backend, ready to be lied to.
struct Stage {
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web = lab.add_host("web");
  std::unique_ptr<IdentifyServer> server;
  std::unique_ptr<Agent> agent;
  std::vector<Process> extras;
  std::unique_ptr<DenyAll> denial;

  explicit Stage(const std::string& agent_yaml = "") {
    server = std::make_unique<IdentifyServer>(lab, web);
    const std::string endpoints =
        lab.write_file("endpoints/cache.json", fmt::format(R"({{"endpoints": [{{"address": "{}"}}]}})", web.v4(7000)));
    agent = std::make_unique<Agent>(
        lab, node,
        AgentSpec{.agent_yaml = agent_yaml,
                  .body = fmt::format("services:\n  - {{name: web, address: 240.64.0.10:80, endpoints: [{{address: "
                                      "\"{}\"}}]}}\n  - {{name: cache, address: 240.64.0.11:80, file: {}}}\n",
                                      web.v4(7000), endpoints)});
    agent->start_healthy();
  }
};

struct Lie {
  std::string name;
  std::string agent_yaml;
  std::function<void(Stage&)> act;
  std::regex condition;  ///< Of the status document's conditions.
  std::regex metric;     ///< A whole line of /metrics.
  /// Where the agent may repair instead of reporting: what holds once it did.
  std::function<bool(Stage&)> repaired;
  /// Makes true what the act then makes a lie. May be empty.
  std::function<void(Stage&)> prepare;
  bool notice = false;                         ///< To be said, without failing readiness and the exit code.
  std::string ready_note = "nothing runs in";  ///< What readiness says then.
};

bool balanced(Stage& stage) {
  return call(stage.lab.on(stage.node, "apps"), Via::kTcp, "240.64.0.10:80", 1)[0].backend == "web";
}

/// Sockets that stay open, more than the table of sockets holds.
void hold_connections(Stage& stage) {
  stage.agent->reconfigure(fmt::format(
      "services:\n  - {{name: web, address: 240.64.0.10:80, endpoints: [{{address: \"{}\"}}]}}\n", stage.web.v4(8080)));
  if (!eventually(std::chrono::seconds(5), [&] { return stage.agent->share("web", stage.web.v4(8080)) > 0; })) {
    throw std::runtime_error("the service does not move to port 8080");
  }
  stage.extras.push_back(Process::start(stage.lab.on(stage.node, "apps", "holder.log"),
                                        [] { return hold_open("240.64.0.10", 80, 2 * kOwners); }));
}

/// The pinned tables as another program could write to them, and the id of the service "web" there.
void tamper(Stage& stage, const std::function<void(const datapath::MapSet&, std::uint32_t service_id)>& change) {
  const auto maps = datapath::open_pinned_maps(stage.agent->bpffs(), datapath::Access::kWrite);
  if (!maps) throw std::runtime_error(maps.error().to_string());
  for (std::uint32_t id = 1; id < maps->sizes().services; ++id) {
    const auto service = maps->read<mesh_service>(datapath::Table::kServices, id);
    if (datapath::frontend_of(service.frontend).to_string() == "240.64.0.10:80/tcp") return change(*maps, id);
  }
  throw std::runtime_error("the tables don't know the service");
}

void open_backends_that_are_not(const datapath::MapSet& maps, std::uint32_t service_id) {
  std::vector<datapath::BookDifference> more;
  for (std::uint32_t id = 1; id < maps.sizes().backends; ++id) {
    const auto backend = maps.read<mesh_backend>(datapath::Table::kBackends, id);
    if (backend.service_id == service_id) more.push_back({id, backend.generation, 3});
  }
  if (const auto done = datapath::correct_books(maps, more); !done) throw std::runtime_error(done.error().to_string());
}

std::vector<Lie> lies() {
  return {
      {"a hook was detached behind the agent's back", "",
       [](Stage& stage) { detach_link(stage.lab.cgroup("apps"), "connect4"); }, std::regex("hook|canary"),
       std::regex("mesh_(hook_effective|canary_ok)\\{.*\\} 0")},
      {"the cgroup was made anew: hooks where nothing runs", "",
       [](Stage& stage) {
         const std::string folder = stage.lab.cgroup("apps");
         if (!eventually(std::chrono::seconds(3), [&] { return remove_empty_cgroup(folder); }))
           throw std::runtime_error("rmdir " + folder);
         stage.lab.cgroup("apps");
       },
       std::regex("hook|canary|cgroup"), std::regex("mesh_(hook_effective|canary_ok)\\{.*\\} 0"), balanced},
      {.name = "all hooks are effective and nothing runs there",
       .act = [](Stage& stage) { stage.extras.clear(); },
       .condition = std::regex("cgroup_empty"),
       .metric = std::regex("mesh_cgroup_populated\\{.*\\} 0"),
       .prepare =
           [](Stage& stage) {
             stage.extras.push_back(Process::start(stage.lab.on(stage.node, "apps"), {"sleep", "60"}));
             if (!eventually(std::chrono::seconds(3),
                             [&] { return stage.agent->json({"status"})["conditions"].empty(); }))
               throw std::runtime_error("the cgroup of a process counts as empty");
           },
       .notice = true},
      {"another program denies what ours has balanced", "",
       [](Stage& stage) { stage.denial = std::make_unique<DenyAll>(stage.lab.cgroup("apps"), "connect4"); },
       std::regex("hook|canary"), std::regex("mesh_(hook_effective|canary_ok)\\{.*\\} 0")},
      {"a table is full while its fill looks low", fmt::format("  limits: {{owners: {}}}\n", kOwners), hold_connections,
       std::regex("full"), std::regex(fmt::format("mesh_map_entries\\{{map=\"owner\"\\}} {}", kOwners))},
      {"a source went stale", "", [](Stage& stage) { ::unlink((stage.lab.folder() / "endpoints/cache.json").c_str()); },
       std::regex("stale|source"), std::regex("mesh_source_state\\{.*state=\"stale\"\\} 1")},
      {.name = "somebody else wrote to the tables",
       .agent_yaml = "  audit_interval: 1s\n",
       .act =
           [](Stage& stage) {
             tamper(stage, [](const auto& maps, std::uint32_t service_id) { maps.store_state(service_id, 0); });
             if (!eventually(std::chrono::seconds(kTruthSeconds), [&] { return balanced(stage); }))
               throw std::runtime_error("the table was not repaired");
           },
       .condition = std::regex("drift_repaired"),
       .metric = std::regex("mesh_drift_repaired_total\\{what=\"tables\"\\} [1-9].*"),
       .notice = true,
       .ready_note = "repaired since start"},
      {.name = "books that name connections nobody has",
       .agent_yaml = "  audit_interval: 1s\n",
       .act = [](Stage& stage) { tamper(stage, open_backends_that_are_not); },
       .condition = std::regex("drift_repaired"),
       .metric = std::regex("mesh_drift_repaired_total\\{what=\"books\"\\} [1-9].*"),
       .notice = true,
       .ready_note = "repaired since start"},
  };
}

/// The first condition of the status document that the pattern names: "name: message".
std::optional<std::string> matching_condition(const Json& status, const Lie& lie) {
  if ((status.value("state", "") == "healthy") != lie.notice) return std::nullopt;
  for (const Json& condition : status.at("conditions")) {
    const std::string name = condition.at("name");
    if (std::regex_search(name, lie.condition)) return name + ": " + condition.at("message").get<std::string>();
  }
  return std::nullopt;
}

std::optional<std::string> matching_line(const std::string& text, const std::regex& pattern) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_match(line, pattern)) return line;
  }
  return std::nullopt;
}

std::string first_line_with(const std::string& text, const std::string& word) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(word) != std::string::npos) return line;
  }
  return {};
}

}  // namespace

void run_truth_trial(const std::function<void(const TruthFinding&)>& report) {
  for (const Lie& lie : lies()) {
    Stage stage(lie.agent_yaml);
    using Witness = std::pair<std::string, std::function<std::optional<std::string>()>>;
    Agent& agent = *stage.agent;
    std::vector<Witness> witnesses{{"status", [&] { return matching_condition(agent.json({"status"}), lie); }},
                                   {"readiness",
                                    [&]() -> std::optional<std::string> {
                                      const std::string answer = agent.http("/readyz?verbose");
                                      const std::string line =
                                          first_line_with(answer, lie.notice ? lie.ready_note : "[-] ");
                                      if (line.empty() || answer.starts_with("200") != lie.notice) return std::nullopt;
                                      return answer.substr(0, 4) + line;
                                    }},
                                   {"metric", [&] { return matching_line(agent.http("/metrics"), lie.metric); }}};
    if (!lie.notice) {
      witnesses.push_back({"exit code", [&]() -> std::optional<std::string> {
                             const int code = agent.ctl({"status"}).code;
                             if (code != kDegraded) return std::nullopt;
                             return fmt::format("meshctl status exits with {}", code);
                           }});
    }
    if (lie.prepare) lie.prepare(stage);
    for (const auto& [name, look] : witnesses) {
      if (const auto early = look()) report({lie.name, name, false, 0, "showed before the act: " + *early});
    }
    lie.act(stage);
    const auto start = Clock::now();
    while (!witnesses.empty()) {
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      for (auto witness = witnesses.begin(); witness != witnesses.end();) {
        const auto detail = witness->second();
        if (!detail && seconds < kTruthSeconds) {
          ++witness;
          continue;
        }
        const bool repaired = !detail && lie.repaired && lie.repaired(stage);
        report({lie.name, witness->first, detail.has_value() || repaired, seconds,
                repaired ? "the agent repaired it: connects are balanced again" : detail.value_or("")});
        witness = witnesses.erase(witness);
      }
    }
  }
}

}  // namespace mesh::test
