// SPDX-License-Identifier: Apache-2.0
// The real meshd and meshctl in a lab: writes the configuration, starts the agent in a cgroup of its own, asks it.
//
// Everything the agent touches is inside the lab (bpffs, cgroups, run and state folder, socket, metrics port of the
// host's own loopback), so several agents run side by side.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace mesh::test {

using Json = nlohmann::json;

/// Path of a built program ("meshd", "meshctl"); empty if this build has none. MESH_BIN_DIR names another folder.
std::string built_program(const std::string& name);

/// Path of the agent as its next version (other programs, another layout of the tables); empty if there is none.
std::string built_next_meshd();

/// Why the real binaries can't run here; empty if they can. System tests skip with this text.
std::string agent_unavailable();

struct AgentSpec {
  std::string name = "meshd";                ///< Keeps the files of several agents of one lab apart.
  std::vector<std::string> cgroups{"apps"};  ///< Cgroups of the lab that it attaches to.
  std::string agent_yaml;    ///< More keys of `agent:`, each line indented by two spaces and ended by a newline.
  std::string metrics;       ///< Keys of `agent.metrics`; empty: a port of the host's loopback, as http() asks.
  std::string more_metrics;  ///< More keys beside that port: "per_backend: true".
  std::string body;          ///< The rest of meshd.yaml: defaults, services, files.
  std::vector<std::string> environment;  ///< "NAME=VALUE"
  std::string program;                   ///< Another meshd than the built one, for upgrades.
};

class Agent {
 public:
  Agent(Lab& lab, const Host& host, AgentSpec spec);
  ~Agent();

  /// Starts it; returns at once.
  void start();
  /// Starts it and waits until `meshctl status` is healthy; throws with the agent's log when it does not become so.
  void start_healthy();
  bool await_healthy(std::chrono::milliseconds timeout = std::chrono::seconds(10));
  void kill() { process_.kill(); }
  /// SIGTERM; its exit code, or nothing if it does not end within five seconds.
  std::optional<int> terminate();
  void signal(int number) const { process_.signal(number); }
  bool running() { return process_.running(); }
  Process& process() { return process_; }

  /// Writes another body into meshd.yaml; the agent sees the file change.
  void reconfigure(const std::string& body);
  void use_program(std::string path) { spec_.program = std::move(path); }

  /// meshctl ARGUMENTS at this agent's socket, run as root on its host.
  Output ctl(const std::vector<std::string>& arguments);
  /// The same with `-o json`; throws if the output is not JSON.
  Json json(const std::vector<std::string>& arguments);
  /// meshd ARGUMENTS, in a cgroup that no agent attaches to.
  Output meshd(const std::vector<std::string>& arguments);
  /// The kernel tables by `meshd dump --json`: works with the agent dead.
  Json dump();
  /// An HTTP answer of the metrics listener: "200\nbody".
  std::string http(const std::string& path);

  /// Share of new connections of "SERVICE" that goes to an endpoint address, 0 to 1; -1 if the agent does not answer.
  double share(const std::string& service, const std::string& address);
  [[nodiscard]] int metrics_port() const { return metrics_port_; }  ///< On the host's loopback.
  [[nodiscard]] std::string log() const;
  [[nodiscard]] const std::string& config_file() const { return config_file_; }
  [[nodiscard]] const std::string& bpffs() const { return bpffs_; }
  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] std::string state_folder() const { return lab_.folder() / (spec_.name + "-state"); }

 private:
  void write_config();

  Lab& lab_;
  const Host& host_;
  AgentSpec spec_;
  std::string bpffs_;
  std::string socket_;
  std::string config_file_;
  std::uint16_t metrics_port_;
  Process process_;
};

}  // namespace mesh::test
