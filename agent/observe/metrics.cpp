// SPDX-License-Identifier: Apache-2.0
#include "observe/metrics.hpp"

#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

#include "mesh_reasons.h"
#include "observe/metric_family.hpp"
#include "observe/metrics_relay.hpp"
#include "observe/metrics_services.hpp"

namespace mesh::observe {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::array<std::string_view, MESH_REASON_COUNT> kReasonNames = {
#define MESH_REASON_LABEL(name, label, text) label,
    MESH_REASONS(MESH_REASON_LABEL)
#undef MESH_REASON_LABEL
};

/// One scrape. `Collectable` is what prometheus-cpp calls something that is asked for its families each time.
class Page final : public prometheus::Collectable {
 public:
  explicit Page(const MetricsInput& input) : input_(input) {}

  [[nodiscard]] std::vector<MetricFamily> Collect() const override {
    families_.clear();
    collect_agent();
    collect_datapath();
    collect_discovery();
    collect_names();
    collect_xds();
    collect_probes();
    for (Family& family : relay_families(input_.status.relay)) keep(std::move(family));
    collect_process();
    collect_services();
    collect_series();
    return std::move(families_);
  }

  [[nodiscard]] std::uint64_t series() const { return series_; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  void keep(Family family) const {
    families_.push_back(std::move(family).take());
    series_ += series_of(families_.back());
  }
  void gauge(const char* name, const char* help, double value) const {
    Family family(name, help, MetricType::Gauge);
    family.add({}, value);
    keep(std::move(family));
  }
  void counter(const char* name, const char* help, std::uint64_t value) const {
    Family family(name, help, MetricType::Counter);
    family.add({}, number(value));
    keep(std::move(family));
  }
  void histogram(const char* name, const char* help, const Histogram& values) const {
    Family family(name, help, MetricType::Histogram);
    family.add_histogram({}, values.bounds_s(), values.counts(), values.sum_s());
    keep(std::move(family));
  }

  void collect_agent() const;
  void collect_datapath() const;
  void collect_discovery() const;
  void collect_names() const;
  void collect_xds() const;
  void collect_probes() const;
  void collect_process() const;
  void collect_services() const;
  void collect_series() const;

  const MetricsInput& input_;
  mutable std::vector<MetricFamily> families_;
  mutable std::uint64_t series_ = 0;
  mutable std::uint64_t dropped_ = 0;
};

void Page::collect_agent() const {
  const api::Status& status = input_.status;
  Family build("mesh_build_info", "Version of the agent; always 1.", MetricType::Gauge);
  build.add({{"version", input_.version.version},
             {"revision", input_.version.revision},
             {"compiler", input_.version.compiler},
             {"layout", input_.version.layout}},
            1);
  keep(std::move(build));
  gauge("mesh_healthy", "1 if nothing makes the agent degraded.", status.state == "healthy" ? 1 : 0);
  gauge("mesh_pass_through", "1 while all connects pass untouched (meshctl pause).",
        status.mode == "pass_through" ? 1 : 0);
  gauge("mesh_conditions", "Things that make the agent degraded now; 'meshctl status' names them.",
        number(static_cast<std::uint64_t>(std::count_if(status.conditions.begin(), status.conditions.end(),
                                                        [](const auto& c) { return c.severity != "notice"; }))));

  Family steps("mesh_loop_longest_step_seconds", "Longest single step of a loop since the last scrape.",
               MetricType::Gauge);
  steps.add({{"loop", "control"}}, std::chrono::duration<double>(input_.control_longest_step).count());
  steps.add({{"loop", "watcher"}}, std::chrono::duration<double>(input_.watcher_longest_round).count());
  steps.add({{"loop", "prober"}}, std::chrono::duration<double>(input_.probes.longest_step).count());
  keep(std::move(steps));
  Family loops("mesh_loop_info", "How a loop waits for the kernel; always 1.", MetricType::Gauge);
  loops.add({{"loop", "control"}, {"kind", status.loop.kind}}, 1);
  loops.add({{"loop", "prober"}, {"kind", input_.probes.loop}}, 1);
  keep(std::move(loops));

  Family reloads("mesh_config_reloads_total", "Configuration reloads by result.", MetricType::Counter);
  reloads.add({{"result", "ok"}}, number(input_.reloads_ok));
  reloads.add({{"result", "failed"}}, number(input_.reloads_failed));
  keep(std::move(reloads));
  gauge("mesh_config_last_reload_successful", "1 if the last reload was applied.",
        status.config.last_reload_ok ? 1 : 0);
  gauge("mesh_config_from_state", "1 if the agent runs on the last good snapshot of its state folder.",
        status.config.from_state ? 1 : 0);

  gauge("mesh_state_saved", "0 while the last good state can't be written to disk.",
        status.saved_state.error.empty() ? 1 : 0);
  counter("mesh_log_lines_dropped_total", "Log lines lost because nobody read them fast enough.",
          input_.log_lines_dropped);
  const AdminMetrics& admin = input_.admin;
  counter("mesh_admin_connections_total", "Connections to the admin socket and the metrics listener.",
          admin.connections);
  counter("mesh_admin_requests_total", "Requests on those connections.", admin.requests);
  counter("mesh_admin_errors_total", "Requests answered with a status of 400 or more.", admin.errors);
  Family refused("mesh_admin_refused_total", "Admin connections and requests refused or cut off, by reason.",
                 MetricType::Counter);
  refused.add({{"reason", "connection_limit"}}, number(admin.refused_connections));
  refused.add({{"reason", "denied"}}, number(admin.denied));
  refused.add({{"reason", "malformed"}}, number(admin.malformed));
  refused.add({{"reason", "timeout"}}, number(admin.timeouts));
  refused.add({{"reason", "tls"}}, number(admin.tls));
  keep(std::move(refused));
  const api::CertificateView& certificate = status.metrics_certificate;
  Family expires("mesh_metrics_certificate_expires_seconds",
                 "Time until the metrics listener's certificate expires; negative: it has; absent without TLS.",
                 MetricType::Gauge);
  if (certificate.expires_in_s) expires.add({}, *certificate.expires_in_s);
  keep(std::move(expires));
  gauge("mesh_metrics_certificate_refused", "1 if the files of that certificate can't be used and an older one is.",
        certificate.error.empty() ? 0 : 1);
}

void Page::collect_datapath() const {
  const api::Status& status = input_.status;
  Family hooks("mesh_hook_effective", "1 if the hook of an attached cgroup is proven to be in effect.",
               MetricType::Gauge);
  for (const auto& hook : status.hooks) {
    hooks.add({{"cgroup", hook.cgroup}, {"hook", hook.hook}}, hook.attached && hook.effective.value_or(false) ? 1 : 0);
  }
  keep(std::move(hooks));
  Family canary("mesh_canary_ok", "1 if the last canary connect under an attached cgroup was balanced.",
                MetricType::Gauge);
  Family age("mesh_canary_age_seconds", "Time since that canary connect.", MetricType::Gauge);
  for (const auto& check : status.canary) {
    if (check.result == "skipped") continue;
    canary.add({{"cgroup", check.cgroup}, {"path", check.path}}, check.result == "ok" ? 1 : 0);
    if (check.checked_ago_s) age.add({{"cgroup", check.cgroup}, {"path", check.path}}, *check.checked_ago_s);
  }
  keep(std::move(canary));
  keep(std::move(age));
  Family populated("mesh_cgroup_populated", "1 if anything runs in an attached cgroup: 0 is hooks that nobody uses.",
                   MetricType::Gauge);
  for (const auto& use : status.cgroups) {
    if (use.populated) populated.add({{"cgroup", use.cgroup}}, *use.populated ? 1 : 0);
  }
  keep(std::move(populated));
  counter("mesh_canary_failures_total", "Canary connects that were not balanced.", input_.canary_failures);

  Family used("mesh_map_entries",
              "Entries in use of a kernel table, counted; only of those whose fullness means something.",
              MetricType::Gauge);
  Family size("mesh_map_capacity", "Entries a kernel table can hold.", MetricType::Gauge);
  Family bytes("mesh_map_memory_bytes", "Kernel memory of a map.", MetricType::Gauge);
  for (const auto& map : status.maps) {
    if (map.used) {
      used.add({{"map", map.name}}, number(*map.used));
      size.add({{"map", map.name}}, number(map.size));
    }
    bytes.add({{"map", map.name}}, number(map.bytes));
  }
  keep(std::move(used));
  keep(std::move(size));
  keep(std::move(bytes));

  gauge("mesh_generation_desired", "Generation of the tables that the agent wants.",
        number(status.apply.generation_desired));
  gauge("mesh_generation_kernel", "Generation of the tables that the kernel has.",
        number(status.apply.generation_kernel));
  Family applies("mesh_applies_total", "Plans written to the kernel tables, by result.", MetricType::Counter);
  applies.add({{"result", "ok"}}, number(status.apply.applies));
  applies.add({{"result", "failed"}}, number(status.apply.failures));
  keep(std::move(applies));
  histogram("mesh_apply_duration_seconds", "Time to write one plan.", input_.apply_duration);
  histogram("mesh_change_latency_seconds", "Time from a source's update to its effect in connect().",
            input_.change_latency);
  gauge("mesh_apply_behind_seconds", "How long the oldest change that is not in the kernel has been waiting.",
        status.apply.behind_s);
  Family repaired("mesh_drift_repaired_total", "Differences that anti-entropy found and repaired.",
                  MetricType::Counter);
  repaired.add({{"what", "tables"}}, number(status.drift.tables_repaired));
  repaired.add({{"what", "books"}}, number(status.drift.books_repaired));
  keep(std::move(repaired));
  gauge("mesh_drift_standing", "Differences found and not repaired; at least 1 while nothing can be compared.",
        number(std::max<std::uint64_t>(status.drift.standing, status.drift.error.empty() ? 0 : 1)));

  counter("mesh_records_freed_total", "Owner records that were freed because their socket had gone unseen.",
          status.records.freed);
  gauge("mesh_records_unreachable", "Old owner records whose sockets can't be looked for.",
        number(status.records.unreachable));

  Family reasons("mesh_reasons_total", "Connects and datagrams that did not go the ordinary way, by reason.",
                 MetricType::Counter);
  for (std::size_t i = 1; i < kReasonNames.size(); ++i) {
    reasons.add({{"reason", std::string(kReasonNames[i])}}, i < input_.reasons.size() ? number(input_.reasons[i]) : 0);
  }
  keep(std::move(reasons));

  Family resets("mesh_connections_reset_total", "Connections that this agent ended, by reason.", MetricType::Counter);
  for (std::size_t i = 0; i < input_.drains.reset.size(); ++i) {
    const auto reason = static_cast<health::DrainReason>(i);
    resets.add({{"reason", std::string(health::to_string(reason))}}, number(input_.drains.reset[i]));
  }
  keep(std::move(resets));
  counter("mesh_connections_reset_failures_total", "Attempts to end a connection that had no effect.",
          input_.drains.failed);
  gauge("mesh_connections_unreachable", "Connections to be ended in network namespaces that can't be entered.",
        number(input_.drains.unreachable));
  gauge("mesh_endpoints_leaving", "Endpoints that are being left and have connections, or were drained by an operator.",
        number(input_.drains.leaving));
}

void Page::collect_names() const {
  const NamesMetrics& names = input_.names;
  Family questions("mesh_names_questions_total",
                   "Questions of clients to the responder of names, by what became of them.", MetricType::Counter);
  for (const auto& [result, count] : {std::pair("answered", names.answered),
                                      {"negative", names.negative},
                                      {"forwarded", names.forwarded},
                                      {"dropped", names.dropped}}) {
    questions.add({{"result", result}}, number(count));
  }
  keep(std::move(questions));
  Family failures("mesh_names_forward_failures_total", "Questions passed on to a resolver that did not answer.",
                  MetricType::Counter);
  failures.add({{"reason", "unreachable"}}, number(names.failed));
  failures.add({{"reason", "timeout"}}, number(names.timed_out));
  keep(std::move(failures));
  gauge("mesh_names_namespaces", "Network namespaces whose clients are answered.", number(names.places));
  gauge("mesh_names_listeners", "Resolvers that are stood in for, over all namespaces.", number(names.listeners));
}

void Page::collect_xds() const {
  const XdsMetrics& xds = input_.xds;
  gauge("mesh_xds_clients", "Clients of the agent's xDS server.", number(xds.clients));
  counter("mesh_xds_streams_total", "Streams that clients of the xDS server opened.", xds.streams);
  counter("mesh_xds_answers_total", "Answers to clients of the xDS server.", xds.answers);
  Family verdicts("mesh_xds_verdicts_total", "What clients of the xDS server thought of answers.", MetricType::Counter);
  verdicts.add({{"verdict", "accepted"}}, number(xds.accepted));
  verdicts.add({{"verdict", "refused"}}, number(xds.refused));
  keep(std::move(verdicts));
  counter("mesh_xds_clients_dropped_total",
          "Clients of the xDS server that were left: slow, too many, or asking for too much.", xds.dropped);
}

void Page::collect_discovery() const {
  const api::Status& status = input_.status;
  gauge("mesh_services", "Services known.", number(status.services));
  gauge("mesh_services_paused", "Services whose connects pass untouched (meshctl pause SERVICE).",
        number(status.paused.size()));
  gauge("mesh_services_without_backend", "Services whose connects are refused: no endpoint is usable.",
        number(input_.services_without_backend));
  gauge("mesh_services_in_panic", "Services that use endpoints which are down, because too few are up.",
        number(status.probes.services_in_panic));
  gauge("mesh_service_conflicts", "Services that are not used because another one claims their frontend.",
        number(status.conflicts.size()));
  Family endpoints("mesh_endpoints", "Endpoints known, by why they get new connections or not.", MetricType::Gauge);
  for (std::size_t i = 0; i < kEligibilities; ++i) {
    endpoints.add({{"state", std::string(model::to_string(static_cast<model::Eligibility>(i)))}},
                  number(input_.endpoints[i]));
  }
  keep(std::move(endpoints));
  gauge("mesh_endpoints_on_probation", "Endpoints that get a share of their connections after an ejection.",
        number(input_.on_probation));

  Family state("mesh_source_state", "1 for the state a source is in.", MetricType::Gauge);
  Family age("mesh_source_age_seconds", "Time since the answer in force; absent while there is none.",
             MetricType::Gauge);
  Family updates("mesh_source_updates_total", "Whole updates taken over.", MetricType::Counter);
  Family errors("mesh_source_errors_total", "Tries that failed.", MetricType::Counter);
  Family kinds("mesh_source_errors_by_kind_total", "Tries that failed, by the kind of error; of registries.",
               MetricType::Counter);
  Family confirmed("mesh_source_only_confirmed",
                   "1 while only endpoints whose probe succeeds are used, because the source is stale for too long.",
                   MetricType::Gauge);
  Family endpoints_of("mesh_source_endpoints", "Endpoints in the answer in force.", MetricType::Gauge);
  Family refused("mesh_source_refused_total", "Answers of the source that the agent refused (xDS: NACK).",
                 MetricType::Counter);
  Family services("mesh_source_services", "Services in the answer in force.", MetricType::Gauge);
  for (const auto& source : status.sources) {
    for (const char* name : {"connecting", "synced", "stale", "failed"}) {
      state.add({{"source", source.name}, {"state", name}}, source.state == name ? 1 : 0);
    }
    if (source.synced_ago_s) age.add({{"source", source.name}}, *source.synced_ago_s);
    for (const auto& [kind, count] : source.errors_by_kind) {
      kinds.add({{"source", source.name}, {"kind", kind}}, number(count));
    }
    confirmed.add({{"source", source.name}}, source.only_confirmed ? 1 : 0);
    endpoints_of.add({{"source", source.name}}, number(source.endpoints));
    updates.add({{"source", source.name}}, number(source.updates));
    errors.add({{"source", source.name}}, number(source.errors));
    refused.add({{"source", source.name}}, number(source.refused));
    services.add({{"source", source.name}}, number(source.services));
  }
  for (Family* family : {&state, &age, &updates, &errors, &kinds, &refused, &confirmed, &services, &endpoints_of}) {
    keep(std::move(*family));
  }
}

void Page::collect_probes() const {
  const health::ProbeStats& probes = input_.probes;
  Family results("mesh_probe_results_total", "Finished probes by type and result.", MetricType::Counter);
  Family durations("mesh_probe_duration_seconds", "Time of a probe from connect to its verdict.",
                   MetricType::Histogram);
  std::vector<double> bounds;
  for (const base::Duration bound : health::kDurationBounds)
    bounds.push_back(std::chrono::duration<double>(bound).count());
  for (std::size_t type = 0; type < health::kProbeTypes; ++type) {
    const std::string name(model::to_string(static_cast<model::ProbeType>(type)));
    const auto& counts = probes.types[type];
    for (std::size_t reason = static_cast<std::size_t>(model::ProbeReason::kOk); reason < health::kProbeReasons;
         ++reason) {
      results.add({{"type", name}, {"result", std::string(model::to_string(static_cast<model::ProbeReason>(reason)))}},
                  number(counts.results[reason]));
    }
    durations.add_histogram({{"type", name}}, bounds, {counts.durations.begin(), counts.durations.end()},
                            std::chrono::duration<double>(counts.duration_sum).count());
  }
  keep(std::move(results));
  keep(std::move(durations));
  gauge("mesh_probe_targets", "Endpoints under probe; equal probes count once.", number(probes.targets));
  gauge("mesh_probes_in_flight", "Probes that have begun and not ended.", number(probes.in_flight));
  gauge("mesh_probe_kept_connections", "Idle connections kept for the next probe.", number(probes.kept_connections));
  counter("mesh_probes_rate_limited_total", "Probes that waited for max_probes_per_second or a free slot.",
          probes.rate_limited);
  counter("mesh_probes_late_total", "Probes that began more than 100 ms after they were due.", probes.late);
  gauge("mesh_probe_lateness_max_seconds", "Worst delay of a probe since the last scrape.",
        std::chrono::duration<double>(probes.lateness_max).count());
  counter("mesh_probe_transitions_total", "Verdicts that changed.", probes.transitions);
}

void Page::collect_process() const {
  const ProcessUsage& process = input_.process;
  Family cpu("process_cpu_seconds_total", "User and system CPU time of the agent.", MetricType::Counter);
  cpu.add({}, process.cpu_seconds);
  keep(std::move(cpu));
  gauge("process_resident_memory_bytes", "Resident memory of the agent.", number(process.resident_bytes));
  gauge("process_virtual_memory_bytes", "Virtual memory of the agent.", number(process.virtual_bytes));
  gauge("process_open_fds", "Open file descriptors.", number(process.open_fds));
  gauge("process_max_fds", "Limit of open file descriptors.", number(process.max_fds));
  gauge("process_start_time_seconds", "Start of the agent, unix time.", process.start_time_seconds);
}

void Page::collect_services() const {
  const ServicePart part = service_part(input_, input_.max_series > series_ ? input_.max_series - series_ : 0);
  for (const MetricFamily& family : part.families) {
    series_ += series_of(family);
    families_.push_back(family);
  }
  dropped_ += part.dropped;
}

void Page::collect_series() const {
  counter("mesh_metrics_series_dropped_total",
          "Series left out because of agent.metrics.max_series, summed over scrapes.",
          input_.series_dropped_before + dropped_);
  gauge("mesh_metrics_series", "Series on this page.", number(series_ + 1));
}

}  // namespace

MetricsPage render_metrics(const MetricsInput& input) {
  const Page page(input);
  std::vector<MetricFamily> families = page.Collect();
  std::erase_if(families, [](const MetricFamily& family) { return family.metric.empty(); });
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return {std::move(text).str(), page.series(), page.dropped()};
}

std::vector<MetricName> metric_names() {
  std::vector<MetricName> names;
  MetricsInput input;
  input.istio.emplace();  // on demand
  for (const MetricFamily& family : Page(input).Collect()) {
    names.push_back({family.name, family.type == MetricType::Counter     ? "counter"
                                  : family.type == MetricType::Histogram ? "histogram"
                                                                         : "gauge"});
  }
  return names;
}

}  // namespace mesh::observe
