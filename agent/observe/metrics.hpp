// SPDX-License-Identifier: Apache-2.0
// The /metrics page as a function of what was counted: no registry, no global state, nothing to forget to delete. A
// service that is gone is simply not in the next input. Every name is in docs/metrics.md; a test compares.
//
// Bounded: series per service come last, busiest services first, and only as many whole services as fit max_series.
// What was left out is counted, never silent.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/services.hpp"
#include "api/status.hpp"
#include "health/drain.hpp"
#include "health/probe_stats.hpp"
#include "model/routing.hpp"
#include "observe/histogram.hpp"
#include "observe/ledger.hpp"
#include "observe/process.hpp"

namespace mesh::observe {

inline constexpr std::size_t kEligibilities = static_cast<std::size_t>(model::Eligibility::kUnconfirmed) + 1;
using EligibilityCounts = std::array<std::uint64_t, kEligibilities>;  ///< by model::Eligibility

struct BackendMetrics {
  std::string address;  ///< "10.0.0.1:8080"
  mesh_backend_live live{};
  mesh_backend_outcomes outcomes{};
  double latency_s = 0;  ///< The peak EWMA of `live`, now.
};

/// Endpoints taken out for what their connections experienced, since the agent's start, by why; and left in.
struct EjectionMetrics {
  std::uint64_t consecutive = 0;
  std::uint64_t rate = 0;
  std::uint64_t relapse = 0;
  std::uint64_t withheld = 0;
  bool operator==(const EjectionMetrics&) const = default;
};

/// Services with the same name, port and protocol are added up: their labels hold no addresses.
struct ServiceMetrics {
  std::string name;
  std::uint16_t port = 0;
  model::Protocol protocol = model::Protocol::kTcp;
  api::ServiceCounters counters;
  EligibilityCounts endpoints{};
  bool feedback = false;
  std::uint64_t active = 0;  ///< Connected sockets that are open.
  EjectionMetrics ejections;
  Experience experience;                 ///< Of all services with this name, port and protocol.
  std::vector<BackendMetrics> backends;  ///< Those in use; empty unless they are wanted.
};

/// Who makes the connections, in the words of the istio_tcp_* family.
struct IstioSource {
  std::string cluster = "Kubernetes";
  std::string workload = "unknown";
  std::string workload_namespace = "unknown";
};

struct AdminMetrics {
  std::uint64_t connections = 0;
  std::uint64_t refused_connections = 0;
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::uint64_t denied = 0;
  std::uint64_t malformed = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t tls = 0;
};

struct DrainMetrics {
  std::array<std::uint64_t, health::kDrainReasons> reset{};  ///< by health::DrainReason
  std::uint64_t failed = 0;
  std::uint64_t unreachable = 0;
  std::uint64_t leaving = 0;
};

/// Questions to the responder of names.
struct NamesMetrics {
  std::uint64_t answered = 0;
  std::uint64_t negative = 0;
  std::uint64_t forwarded = 0;
  std::uint64_t failed = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t dropped = 0;
  std::uint64_t places = 0;
  std::uint64_t listeners = 0;
};

/// The agent's own xDS server.
struct XdsMetrics {
  std::uint64_t clients = 0;
  std::uint64_t streams = 0;
  std::uint64_t answers = 0;
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;
  std::uint64_t dropped = 0;
};

struct MetricsInput {
  api::VersionView version;
  api::Status status;  ///< hooks, canary, maps, apply, sources, config, loop, conditions
  health::ProbeStats probes;
  EligibilityCounts endpoints{};
  std::uint64_t on_probation = 0;  ///< Endpoints that get a share after an ejection; eligible otherwise.
  std::uint64_t services_without_backend = 0;
  std::vector<ServiceMetrics> services;
  std::vector<std::uint64_t> reasons;  ///< by enum mesh_reason; missing ones are 0
  std::uint64_t reloads_ok = 0;
  std::uint64_t reloads_failed = 0;
  std::uint64_t canary_failures = 0;
  Histogram apply_duration = make_work_histogram();  ///< one whole plan
  Histogram change_latency = make_work_histogram();  ///< a source's update to its effect in the kernel
  base::Duration control_longest_step{};             ///< since the last scrape
  base::Duration watcher_longest_round{};            ///< likewise
  std::uint64_t log_lines_dropped = 0;
  AdminMetrics admin;
  DrainMetrics drains;
  NamesMetrics names;
  XdsMetrics xds;
  ProcessUsage process;
  std::optional<IstioSource> istio;  ///< Nothing: no istio_tcp_* family.
  std::uint64_t max_series = 20000;
  std::uint64_t series_dropped_before = 0;  ///< sum of MetricsPage::series_dropped of all pages before
};

struct MetricsPage {
  std::string text;  ///< Prometheus text exposition format 0.0.4
  std::uint64_t series = 0;
  std::uint64_t series_dropped = 0;  ///< on this page
};

MetricsPage render_metrics(const MetricsInput& input);

/// Name and type of every metric that can be on a page.
struct MetricName {
  std::string name;
  std::string type;  ///< "counter", "gauge", "histogram"
};
std::vector<MetricName> metric_names();

}  // namespace mesh::observe
