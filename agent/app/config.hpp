// SPDX-License-Identifier: Apache-2.0
// meshd.yaml and conf.d as the agent uses them. The parser (config.cpp) refuses what it does not know, and names file,
// line, column, key and a suggestion for each finding; nothing is applied unless all of it is right.
// Every key is described in docs/configuration.md and in the JSON Schema that `meshctl config schema` prints.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "datapath/map_store.hpp"
#include "model/service.hpp"

namespace mesh::app {

struct CanarySettings {
  bool enabled = true;
  std::chrono::milliseconds interval{2000};
  std::string address4 = "240.79.255.254";            ///< VIPs that nothing else uses.
  std::string address6 = "fd6d:6573:6864::fffe";
};

/// `agent:` in meshd.yaml. Changes to all but log and probes take effect at the next start (a reload says so).
struct AgentSettings {
  std::vector<std::string> cgroups;                   ///< Paths below the cgroup2 mount, "/" for the whole host.
  std::string cgroup_root;                            ///< cgroup2 mount; empty: found in /proc/mounts.
  std::string bpffs = "/sys/fs/bpf/meshd";            ///< Pins of programs, links and maps.
  std::string run_dir = "/run/meshd";
  std::string state_dir = "/var/lib/meshd";
  std::string socket = "/run/meshd/meshd.sock";       ///< Admin API; default: <run_dir>/meshd.sock
  std::string socket_group = "meshd";                 ///< May read; only root may change. Absent group: root only.
  std::string exempt_cgroup;                          ///< The agent's own leaf; empty: "<own cgroup>/agent", or "/meshd.agent".
  std::string metrics_listen = "127.0.0.1:9464";      ///< HTTP for /metrics, /livez, /readyz. Empty: none.
  std::string metrics_token_file;                     ///< Needed, or TLS, when metrics_listen is not loopback.
  std::string metrics_tls_cert;
  std::string metrics_tls_key;
  std::uint32_t metrics_max_series = 20000;
  std::string loop = "auto";                          ///< auto, io_uring, epoll
  std::string log_level = "info";                     ///< debug, info, warn, error
  std::string log_format = "auto";                    ///< auto (text on a terminal, else json), text, json
  std::uint32_t max_probes_per_second = 1000;
  datapath::TableSizes limits;
  CanarySettings canary;
  bool operator==(const AgentSettings&) const;
};

/// A `file:` of a service, or an entry of `files:`: something the file source watches.
struct FileReference {
  std::string path;         ///< A file, or a folder whose *.json, *.yaml are read.
  model::ServicePtr service;  ///< For `file:` of one service: its settings without endpoints. Null: the file has whole services.
};

struct Config {
  AgentSettings agent;
  std::vector<model::ServicePtr> services;  ///< Inline ones, with endpoints.
  std::vector<FileReference> files;
  std::vector<std::string> read_files;      ///< What was read: meshd.yaml and its conf.d, for the watcher.
};

/// One finding; `to_string` is "FILE:LINE:COLUMN: KEY: message; suggestion".
struct Diagnostic {
  std::string file;
  int line = 0;    ///< From 1; 0: the whole file.
  int column = 0;  ///< From 1.
  std::string key;  ///< "services[2].probe.interval"
  std::string message;
  std::string suggestion;
  [[nodiscard]] std::string to_string() const;
};

}  // namespace mesh::app
