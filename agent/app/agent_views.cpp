// SPDX-License-Identifier: Apache-2.0
// What the agent as a whole says of itself.
#include <algorithm>

#include "app/agent.hpp"
#include "app/agent_admin.hpp"
#include "app/version.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "datapath/counters.hpp"
#include "observe/metrics.hpp"

namespace mesh::app {
namespace {

/// The one attached cgroup ("/system.slice/shop.service" is "shop"), or else this host: the books don't tell who of
/// several connected.
observe::IstioSource istio_source(const std::string& cluster, const std::vector<std::string>& cgroups) {
  if (cgroups.size() == 1) {
    std::string name = cgroups.front().substr(cgroups.front().rfind('/') + 1);
    name.resize(std::min(name.size(), name.rfind(".service")));
    if (!name.empty()) return {.cluster = cluster, .workload = name};
  }
  return {.cluster = cluster, .workload = base::host_name()};
}

}  // namespace

api::ProbesView Agent::probes_view() {
  api::ProbesView view;
  const auto reconciled = reconciler_->latest();
  if (reconciled->routing) {
    for (const auto& route : reconciled->routing->services) {
      view.services_in_panic += route->panic ? 1 : 0;
      if (!route->service->probe) continue;
      std::size_t known = 0;
      if (route->health) {
        for (const auto& endpoint : route->health->endpoints) {
          if (endpoint.verdict == model::Verdict::kUnknown) continue;
          ++known;
          ++(endpoint.verdict == model::Verdict::kUp ? view.up : view.down);
        }
      }
      view.unknown += route->service->endpoints.size() - std::min(known, route->service->endpoints.size());
    }
  }
  view.endpoints = probe_stats_.targets;
  view.per_second = probes_per_second_;
  view.budget_per_second = config_->state().config.agent.max_probes_per_second;
  view.delayed = probe_stats_.rate_limited;
  return view;
}

api::ConfigState Agent::config_state() const {
  const ConfigKeeper::State& state = config_->state();
  const auto when = [](base::WallTime time) {
    return time == base::WallTime{} ? std::string() : base::format_rfc3339(time);
  };
  return {state.path,
          state.last_ok,
          when(state.reloaded_at),
          when(state.loaded_at),
          state.from_state,
          to_views(state.findings),
          state.needs_restart};
}

/// What only the loop knows.
observe::MetricsInput Agent::gather_metrics() {
  observe::MetricsInput input;
  input.version = version_view();
  input.status = admin_->status();
  input.probes = probe_stats_;
  input.probes.longest_step = std::exchange(probes_longest_step_, {});
  input.probes.lateness_max = std::exchange(probes_lateness_max_, {});
  const ConfigKeeper::State& config = config_->state();
  input.reloads_ok = config.reloads - config.failures;
  input.reloads_failed = config.failures;
  input.canary_failures = canary_failures_;
  input.control_longest_step = std::exchange(scrape_longest_step_, {});
  input.watcher_longest_round = watcher_->take_longest();
  input.log_lines_dropped = base::log::dropped();
  const AdminCounters& admin = server_->counters();
  input.admin = {admin.connections, admin.refused_connections, admin.requests, admin.errors,
                 admin.denied,      admin.malformed,           admin.timeouts, admin.tls};
  const Drainer::Counts drains = drainer_->counts();
  if (names_) {
    const names::ResponderStats names = names_->stats();
    input.names = {names.answered,  names.negative, names.forwarded, names.failed,
                   names.timed_out, names.dropped,  names.places,    names.listeners};
  }
  if (xds_) {
    const xds::ServerStats xds = xds_->stats();
    input.xds = {xds.clients, xds.streams, xds.answers, xds.accepted, xds.refused, xds.dropped};
  }
  input.drains = {drains.reset, drains.failed, drains.unreachable, drains.leaving};
  input.max_series = config.running.metrics_max_series;
  if (config.running.metrics_istio) {
    input.istio = istio_source(config.running.metrics_istio_cluster, datapath_->cgroups());
  }
  return input;
}

/// What grows with the number of services; on the scrape's thread.
base::Result<void> Agent::complete_metrics(observe::MetricsInput& input) {
  const auto reconciled = reconciler_->latest();
  input.apply_duration = reconciled->apply_durations;
  input.change_latency = reconciled->change_latencies;
  const auto reasons = MESH_TRY(datapath::read_reasons(datapath_->maps()));
  input.reasons.assign(reasons.begin(), reasons.end());
  input.process = observe::read_process_usage();
  return service_metrics_->read(*reconciled, ejector_->counts(), input);
}

}  // namespace mesh::app
