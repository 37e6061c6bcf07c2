// SPDX-License-Identifier: Apache-2.0
// meshd.yaml and conf.d as the agent uses them. The parser (config.cpp) refuses what it does not know, and names file,
// line, column, key and a suggestion for each finding; nothing is applied unless all of it is right.
// Every key is described in docs/configuration.md and in the JSON Schema that `meshctl config schema` prints.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "datapath/map_store.hpp"
#include "discovery/diagnostic.hpp"
#include "discovery/source_input.hpp"
#include "discovery/source_keys.hpp"
#include "discovery/vip_pool.hpp"
#include "model/service.hpp"
#include "relay/settings.hpp"

namespace mesh::app {

struct CanarySettings {
  bool enabled = true;
  std::chrono::milliseconds interval{2000};
  std::string address4 = "240.79.255.254";  ///< VIPs that nothing else uses.
  std::string address6 = "fd6d:6573:6864::fffe";
  bool operator==(const CanarySettings&) const = default;
};

/// Answers to `<service>.mesh` for processes in the attached cgroups.
struct NamesSettings {
  bool enabled = false;
  std::string domain = "mesh";
  std::vector<std::string> resolvers;  ///< IP addresses, beside those of each client's resolv.conf.
  std::uint16_t port = 15353;          ///< On loopback, in each client's network namespace; and the next 15.
  bool operator==(const NamesSettings&) const = default;
};

/// The agent's own xDS server, for clients on this host.
struct XdsServerSettings {
  std::string listen;  ///< "127.0.0.1:18000" or "unix:///run/meshd/xds.sock"; empty: none.
  bool operator==(const XdsServerSettings&) const = default;
};

/// PEM files of a TLS server; both empty: no TLS.
struct CertificateFiles {
  std::string certificate;  ///< Then its chain.
  std::string key;
  bool operator==(const CertificateFiles&) const = default;
};

/// `agent:` in meshd.yaml. Changes to all but log and probes take effect at the next start (a reload says so).
struct AgentSettings {
  std::vector<std::string> cgroups;         ///< Paths below the cgroup2 mount, "/" for the whole host.
  std::string cgroup_root;                  ///< cgroup2 mount; empty: found in /proc/mounts.
  std::string bpffs = "/sys/fs/bpf/meshd";  ///< Pins of programs, links and maps.
  std::string run_dir = "/run/meshd";
  std::string state_dir = "/var/lib/meshd";
  std::string socket = "/run/meshd/meshd.sock";  ///< Admin API; default: <run_dir>/meshd.sock
  std::string socket_group = "meshd";            ///< May read; only root may change. Absent group: root only.
  std::string exempt_cgroup;  ///< The agent's own leaf; empty: "<own cgroup>/agent", or "/meshd.agent".
  std::string metrics_listen = "127.0.0.1:9464";  ///< HTTP for /metrics, /livez, /readyz. Empty: none.
  std::string metrics_token_file;                 ///< This or the next is needed when metrics_listen is not loopback.
  CertificateFiles metrics_tls;
  std::uint32_t metrics_max_series = 20000;
  bool metrics_per_backend = false;
  bool metrics_istio = false;
  std::string metrics_istio_cluster = "Kubernetes";  ///< Istio's name for a cluster that nobody named.
  std::string loop = "auto";                         ///< auto, io_uring, epoll
  std::string log_level = "info";                    ///< debug, info, warn, error
  std::string log_format = "auto";                   ///< auto (text on a terminal, else json), text, json
  std::uint32_t max_probes_per_second = 1000;
  std::chrono::milliseconds audit_interval{30'000};  ///< Between comparisons of the kernel tables with what is wanted.
  datapath::TableSizes limits;
  CanarySettings canary;
  NamesSettings names;
  std::uint16_t relay_port = 15400;  ///< On loopback, in each client's network namespace; and the next 1023.
  XdsServerSettings xds;
  discovery::VipRange vips4{*base::IpAddress::parse("240.64.0.0"), 12};  ///< For services without an address.
  bool vip_route = true;  ///< The ranges are unreachable on this host while there are sources.
  discovery::VipRange vips6{*base::IpAddress::parse("fd6d:6573:6864::"), 64};
  std::string zone;  ///< Where this agent runs, for `prefer`; empty: unknown.
  std::string node;
  bool operator==(const AgentSettings&) const = default;
};

using discovery::Diagnostic;
using discovery::FileReference;

struct Config {
  AgentSettings agent;
  discovery::ServicePolicy defaults;
  std::vector<model::ServicePtr> services;  ///< Inline ones, with endpoints.
  std::vector<FileReference> files;
  std::vector<discovery::SourceSpec> sources;  ///< In order of precedence, after services and files.
  relay::Settings relay;
  std::vector<std::string> read_files;  ///< What was read: meshd.yaml and its conf.d.

  /// For discovery::FileSource.
  [[nodiscard]] discovery::SourceInput source_input() const { return {services, files, defaults, std::nullopt}; }
};

/// With errors, `config` is of no use and nothing of it is applied.
struct LoadResult {
  Config config;
  std::vector<Diagnostic> errors;  ///< In the order of the files; at most discovery::Findings::kMax.
  std::vector<Diagnostic> warnings;

  [[nodiscard]] bool good() const { return errors.empty(); }
  [[nodiscard]] base::Error error() const;  ///< The first error and how many more; kInvalid.
};

/// Reads `path` (meshd.yaml) and `conf.d/*.yaml` beside it, in the order of their names. Watched service files are not
/// read here: they have their own life in discovery::FileSource.
LoadResult load_config(const std::string& path);

/// One configuration file as text, for tests and fuzzers, and for what stands in memory.
struct ConfigText {
  std::string file;    ///< For findings: "/etc/meshd/meshd.yaml"
  std::string origin;  ///< For Service::origin: "meshd.yaml"
  std::string text;
};
LoadResult parse_config(const std::vector<ConfigText>& files);

/// A configuration that works on any machine and touches nothing: own cgroup, no service. For a first start.
std::string_view default_config_text();

enum class Format { kJson, kYaml };
/// The effective configuration with all defaults filled in; values of probe headers are hidden.
std::string show_config(const Config& config, Format format);

/// The `agent:` section alone, as JSON that parse_agent_settings reads back; for the state on disk.
std::string encode_agent_settings(const AgentSettings& settings);
base::Result<AgentSettings> parse_agent_settings(std::string_view json);

/// The JSON Schema (draft 7) of meshd.yaml, for editors and `meshctl config schema`.
std::string config_schema();

/// All keys with dots ("agent.metrics.listen", "services.probe.path"), for the test of docs/configuration.md.
std::vector<std::string> config_keys();

}  // namespace mesh::app
