// SPDX-License-Identifier: Apache-2.0
#include "app/agent_admin.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "app/bpf_views.hpp"
#include "app/change_notes.hpp"
#include "app/connections.hpp"
#include "app/explain.hpp"
#include "app/internal_source.hpp"
#include "app/target.hpp"
#include "app/traffic.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "base/plural.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

using base::ErrorKind;
using datapath::Table;

double seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::optional<double> ago(base::WallTime time, base::WallTime now) {
  if (time == base::WallTime{}) return std::nullopt;
  return std::max(0.0, seconds(now - time));
}

std::string when(base::WallTime time) { return time == base::WallTime{} ? std::string() : base::format_rfc3339(time); }

bool is_canary(const model::Service& service) { return service.source == kInternalSource; }

std::uint64_t count_of(const model::ServiceRoute& route, model::Eligibility which) {
  return static_cast<std::uint64_t>(std::ranges::count(route.eligibility, which));
}

/// A readiness check that fails for each condition of these names.
void add_unless(const api::Status& status, api::ReadyView& view, const std::string& name,
                std::initializer_list<std::string_view> conditions, const std::string& otherwise) {
  for (const auto& condition : status.conditions) {
    if (std::ranges::find(conditions, condition.name) == conditions.end()) continue;
    view.checks.push_back({name, false, condition.message});
    return;
  }
  view.checks.push_back({name, true, otherwise});
}

std::uint64_t resident_bytes() {
  const auto text = base::read_file("/proc/self/statm", 4096);
  unsigned long total = 0;
  unsigned long resident = 0;
  if (!text || std::sscanf(text->c_str(), "%lu %lu", &total, &resident) != 2) return 0;
  return std::uint64_t{resident} * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

/// The routes a list request is about: those that match, after the cursor, whole services up to the limit.
struct AgentAdmin::Page {
  std::vector<model::ServiceRoutePtr> routes;
  std::uint64_t services = 0;   ///< That match, on all pages.
  std::uint64_t endpoints = 0;  ///< Of those.
};

AgentAdmin::AgentAdmin(Agent& agent) : agent_(agent), kernel_(*agent.datapath_) {}

api::VersionView AgentAdmin::version() { return version_view(); }

api::Status AgentAdmin::status() {
  const auto now = base::wall_now();
  const auto reconciled = agent_.reconciler_->latest();
  api::Status status;
  status.version = kVersion;
  status.pid = ::getpid();
  status.started_at = base::format_rfc3339(agent_.started_at_);
  status.uptime_s = seconds(now - agent_.started_at_);
  status.bpffs = agent_.datapath_->directory();
  status.pass_until = describe_pause(agent_.datapath_->maps().control().pass_until_ns, now);
  status.mode = status.pass_until.empty() ? "active" : "pass_through";
  if (status.pass_until == "forever") status.pass_until.clear();
  status.paused = paused_services(agent_.datapath_->maps(), reconciled->routing, now);
  if (reconciled->snapshot) {
    for (const auto& service : reconciled->snapshot->services) {
      if (is_canary(*service)) continue;
      ++status.services;
      status.endpoints += service->endpoints.size();
    }
  }
  if (reconciled->routing) {
    for (const auto& route : reconciled->routing->services) {
      if (is_canary(*route->service)) continue;
      status.services_refusing += route->routes.empty() ? 1 : 0;
      status.endpoints_down += count_of(*route, model::Eligibility::kProbeDown);
      status.endpoints_ejected += count_of(*route, model::Eligibility::kEjected);
    }
  }
  add_hooks(status);
  add_canary(status);
  for (const auto& refusal : agent_.datapath_->features().refused) {
    status.refused.push_back({refusal.feature, refusal.why});
  }
  status.maps = map_fill(*reconciled);
  add_apply(status, *reconciled);
  add_drift(status, *reconciled);
  const api::SourceList from_sources = sources();
  status.sources = from_sources.items;
  status.conflicts = from_sources.conflicts;
  status.probes = agent_.probes_view();
  status.config = agent_.config_state();
  const StateStore::Status saved = agent_.state_->status();
  status.saved_state.saved_at = when(saved.saved_at);
  if (saved.error) {
    status.saved_state.error = saved.error->message;
    status.saved_state.remedy = saved.error->remedy;
  }
  status.loop = {std::string(agent_.loop_.loop->name()), agent_.loop_.reason, seconds(agent_.longest_step_)};
  status.memory_resident_bytes = resident_bytes();
  if (agent_.certificate_) {
    const auto expires = agent_.certificate_->context()->expires();
    const auto error = agent_.certificate_->error();
    status.metrics_certificate = {agent_.certificate_->files().certificate, when(expires), seconds(expires - now),
                                  error ? error->to_string() : std::string()};
  }
  status.relay = agent_.relay_->view();
  if (const std::size_t refused = reconciled->without_relay_port; refused != 0) {
    status.relay.socket_errors.push_back(
        fmt::format("{} refused everywhere: only {} have a port", base::counted(refused, "service"), kRelayPortsMax));
  }
  status.conditions = conditions_of(status);
  const bool degraded = std::ranges::any_of(status.conditions, [](const auto& c) { return c.severity == "degraded"; });
  status.state = agent_.stopping_ ? "stopping" : !reconciled->snapshot ? "starting" : degraded ? "degraded" : "healthy";
  return status;
}

void AgentAdmin::add_hooks(api::Status& status) {
  if (!agent_.housekept_) return;
  for (const auto& hook : agent_.housekept_->hooks) status.hooks.push_back(hook_view(hook));
  for (const auto& use : agent_.housekept_->cgroups) {
    status.cgroups.push_back({use.cgroup, use.populated, when(use.since)});
  }
}

void AgentAdmin::add_canary(api::Status& status) {
  if (!agent_.canary_) return;
  const auto now = base::wall_now();
  for (const std::string& cgroup : agent_.datapath_->cgroups()) {
    const auto found = agent_.canary_->reports().find(cgroup);
    for (std::size_t index = 0; index < datapath::kCanaryKinds; ++index) {
      const auto kind = static_cast<datapath::CanaryKind>(index);
      api::CanaryView& view = status.canary.emplace_back();
      view.cgroup = cgroup;
      view.path = to_string(kind);
      view.result = "unknown";
      if (found == agent_.canary_->reports().end()) continue;
      const datapath::CanaryReport& report = found->second;
      view.checked_ago_s = ago(report.checked_at, now);
      const auto check = std::ranges::find(report.checks, kind, &datapath::CanaryCheck::kind);
      if (!report.error.empty()) {
        view.result = "failed";
        view.detail = report.error;
      } else if (check == report.checks.end()) {
        view.result = "skipped";
        view.detail = "this host has no such address family";
      } else {
        view.result = check->ok ? "ok" : "failed";
        view.detail = check->detail;
      }
    }
  }
}

void AgentAdmin::add_apply(api::Status& status, const Reconciled& reconciled) {
  const auto now = base::wall_now();
  api::ApplyView& view = status.apply;
  view.generation_desired = reconciled.routing ? reconciled.routing->generation : 0;
  view.generation_kernel = reconciled.kernel_generation;
  view.last_apply_at = when(reconciled.applied_at);
  view.last_apply_ago_s = ago(reconciled.applied_at, now);
  view.last_apply_duration_s = seconds(reconciled.apply_duration);
  view.applies = reconciled.applies;
  view.failures = reconciled.failures;
  if (reconciled.error) view.error = reconciled.error->to_string();
  view.audited_ago_s = ago(reconciled.audited_at, now);
  view.behind_s = seconds(agent_.reconciler_->behind(base::steady_now()));
}

void AgentAdmin::add_drift(api::Status& status, const Reconciled& reconciled) {
  const RecordKeeper::State records = agent_.records_->state();
  status.records = {records.passes, records.freed, records.unreachable,
                    records.error ? records.error->to_string() : std::string()};
  const BookKeeper::State books = agent_.books_->state();
  api::DriftView& view = status.drift;
  view.tables_repaired = reconciled.drift_repaired;
  view.books_repaired = books.repaired;
  view.standing = books.standing + (reconciled.audit_error ? 1 : 0);
  const auto& error = reconciled.audit_error ? reconciled.audit_error : books.error;
  if (error) view.error = error->to_string();
  view.last = reconciled.drift_at > books.repaired_at ? reconciled.drift_last : books.last;
  view.last_ago_s = ago(std::max(reconciled.drift_at, books.repaired_at), base::wall_now());
}

std::vector<api::MapFill> AgentAdmin::map_fill(const Reconciled& reconciled) {
  const auto& maps = agent_.datapath_->maps();
  std::vector<api::MapFill> fill;
  for (std::size_t index = 0; index < datapath::kTableCount; ++index) {
    const Table table = datapath::table_at(index);
    fill.push_back({std::string(datapath::to_string(table)), std::nullopt, maps.shape(table).max_entries,
                    datapath::map_memory_bytes(maps.fd(table), maps.shape(table))});
  }
  const auto view = [&](Table table) -> api::MapFill& { return fill[static_cast<std::size_t>(table)]; };
  const auto take = [&](Table table, const auto& use) {  // the first ids mean something else: not all can be had
    view(table).used = use.used + use.quarantined;
    view(table).size = use.size;
  };
  take(Table::kServices, reconciled.usage.services);
  take(Table::kRanges, reconciled.usage.ranges);
  take(Table::kSlots, reconciled.usage.slots);
  take(Table::kBackends, reconciled.usage.backends);
  if (agent_.housekept_) {
    view(Table::kFrontends).used = agent_.housekept_->frontends;
    view(Table::kOwner).used = agent_.housekept_->owners;
    view(Table::kAffinity).used = agent_.housekept_->affinities;
  }
  return fill;
}

/// Registries as they are now, the rest as the last snapshot has it.
SourceStatuses AgentAdmin::source_statuses() {
  SourceStatuses statuses;
  const auto reconciled = agent_.reconciler_->latest();
  for (const auto& source : agent_.sources_->statuses()) statuses.emplace(source.name, source);
  if (!reconciled->snapshot) return statuses;
  for (const auto& source : reconciled->snapshot->sources) {
    if (source.name == kFileSource) statuses.emplace(source.name, source);
  }
  return statuses;
}

api::SourceList AgentAdmin::sources() {
  const auto reconciled = agent_.reconciler_->latest();
  const SourceStatuses statuses = source_statuses();
  api::SourceList list;
  const auto now = base::wall_now();
  // In order of precedence.
  if (const auto files = statuses.find(kFileSource); files != statuses.end()) {
    list.items.push_back(source_view(files->second, now));
  }
  for (const auto& source : agent_.config_->state().config.sources) {
    if (const auto found = statuses.find(source.name); found != statuses.end()) {
      list.items.push_back(source_view(found->second, now));
    }
  }
  if (reconciled->snapshot) list.conflicts = conflict_views(*reconciled->snapshot);
  if (agent_.xds_) list.client_refusals = refusal_views(agent_.xds_->refusals());
  return list;
}

base::Result<AgentAdmin::Page> AgentAdmin::page_of(const api::ListRequest& request,
                                                   const Reconciled& reconciled) const {
  Page page;
  if (!reconciled.routing) return page;
  std::optional<Target> target;
  if (!request.service.empty()) {
    target = MESH_TRY(Target::parse(request.service));
    const auto found = MESH_TRY(find_services(*reconciled.snapshot, *target));
    if (found.empty()) {
      return base::fail(ErrorKind::kNotFound, "find service " + request.service + ": no service has this address",
                        "`meshctl services` lists them");
    }
  }
  bool past_cursor = request.after.empty();
  std::uint64_t taken = 0;
  for (const auto& route : reconciled.routing->services) {
    const model::Service& service = *route->service;
    if (is_canary(service) || (target && !target->matches(service))) continue;
    ++page.services;
    page.endpoints += service.endpoints.size();
    if (past_cursor && taken < request.limit) {
      page.routes.push_back(route);
      ++taken;
    }
    if (!past_cursor && service.frontend.to_string() == request.after) past_cursor = true;
  }
  if (!past_cursor) {
    return base::fail(ErrorKind::kInvalid, "continue the list after '" + request.after + "': that service is gone",
                      "start again without `after`");
  }
  return page;
}

template <typename Use>
void AgentAdmin::with_facts(const std::vector<model::ServiceRoutePtr>& routes, Use use) {
  kernel_.refresh(agent_.reconciler_->latest()->applies);
  std::vector<model::Frontend> frontends;
  for (const auto& route : routes) frontends.push_back(route->service->frontend);
  auto fresh = agent_.prober_->latest(frontends);
  const SourceStatuses statuses = source_statuses();
  fresh.resize(routes.size());  // the prober did not answer in time: what was published is shown, with its age
  for (std::size_t index = 0; index < routes.size(); ++index) {
    const std::uint32_t id = kernel_.service_id(frontends[index]);
    const datapath::ServiceTables tables = kernel_.tables(id);
    use(ServiceFacts{.route = *routes[index],
                     .service_id = id,
                     .tables = tables,
                     .backends = kernel_.backends(id),
                     .health = fresh[index] ? fresh[index] : routes[index]->health,
                     .pass_until_ns = kernel_.pass_until_ns(id),
                     .counters = kernel_.counters(id),
                     .picks = [this](std::uint32_t backend_id) { return kernel_.picks(backend_id); },
                     .sources = &statuses});
  }
}

base::Result<api::ServiceList> AgentAdmin::services(const api::ListRequest& request) {
  const auto reconciled = agent_.reconciler_->latest();
  const Page page = MESH_TRY(page_of(request, *reconciled));
  api::ServiceList list;
  list.total = page.services;
  with_facts(page.routes,
             [&](const ServiceFacts& facts) { list.items.push_back(service_view(facts, base::wall_now())); });
  if (page.routes.size() == request.limit) list.next = page.routes.back()->service->frontend.to_string();
  return list;
}

base::Result<api::EndpointList> AgentAdmin::endpoints(const api::ListRequest& request) {
  const auto reconciled = agent_.reconciler_->latest();
  const Page page = MESH_TRY(page_of(request, *reconciled));
  api::EndpointList list;
  list.total = page.endpoints;
  with_facts(page.routes, [&](const ServiceFacts& facts) {
    std::ranges::move(endpoint_views(facts, base::wall_now()), std::back_inserter(list.items));
  });
  if (page.routes.size() == request.limit) list.next = page.routes.back()->service->frontend.to_string();
  return list;
}

base::Result<api::ExplainView> AgentAdmin::explain(const api::ExplainRequest& request) {
  const auto reconciled = agent_.reconciler_->latest();
  const Target target = MESH_TRY(Target::parse(request.target));
  ExplainContext context;
  context.cgroup = request.cgroup;
  context.client = {request.netns_cookie, request.cgroup_id, request.uid.value_or(0), {}};
  context.exempt_cgroup_id = agent_.own_cgroup_.id;
  if (!request.cgroup.empty() && (request.netns_cookie == 0 || request.cgroup_id == 0)) {
    const auto client = MESH_TRY(datapath::identify_client(agent_.datapath_->cgroup_root(), request.cgroup));
    context.cgroup = client.cgroup;
    context.client.netns_cookie = client.netns_cookie;
    context.client.cgroup_id = client.cgroup_id;
    if (!request.uid) context.client.uid = client.uid;
  }
  if (!request.source_address.empty()) context.client.source = MESH_TRY(base::IpAddress::parse(request.source_address));
  api::ExplainView view;
  view.target = request.target;
  view.from = context.cgroup;
  if (!context.cgroup.empty()) {
    context.attached = std::ranges::any_of(agent_.datapath_->cgroups(), [&](const std::string& attached) {
      return datapath::is_within(context.cgroup, attached);
    });
    view.from_attached = context.attached;
  }
  std::vector<model::ServiceRoutePtr> routes;
  if (reconciled->snapshot) {
    for (const auto& service : MESH_TRY(find_services(*reconciled->snapshot, target))) {
      for (const auto& route : reconciled->routing->services) {
        if (route->service == service) routes.push_back(route);
      }
    }
  }
  if (routes.empty() && target.address) view.results.push_back(explain_untouched(target.address->to_string()));
  std::optional<base::Error> error;
  with_facts(routes, [&](const ServiceFacts& facts) {
    const auto picked = agent_.datapath_->explain(datapath::key_of(facts.route.service->frontend), context.client);
    if (!picked) {
      error = picked.error();
      return;
    }
    view.results.push_back(explain_service(facts, *picked, context, base::wall_now()));
  });
  if (error) return std::unexpected(std::move(*error));
  return view;
}

base::Result<api::BpfDump> AgentAdmin::dump(const api::DumpRequest& request) {
  return dump_tables(agent_.datapath_->maps(), agent_.datapath_->directory(), request);
}

base::Result<api::BpfStats> AgentAdmin::stats() {
  api::BpfStats stats = MESH_TRY(read_bpf_stats(
      agent_.datapath_->maps(), agent_.housekept_ ? agent_.housekept_->hooks : std::vector<datapath::HookStatus>{}));
  stats.maps = map_fill(*agent_.reconciler_->latest());
  return stats;
}

void AgentAdmin::diff(Reply<api::BpfDiff> reply) {
  agent_.reconciler_->run(
      [this, reply = std::move(reply)](datapath::Writer& writer, const Reconciled& reconciled) mutable {
        api::BpfDiff diff;
        base::Result<api::BpfDiff> result = diff;
        if (reconciled.routing) {
          diff.generation = reconciled.routing->generation;
          diff.compared = reconciled.usage.services.used + reconciled.usage.ranges.used +
                          reconciled.usage.backends.used + reconciled.usage.slots.used;
          if (auto lines = writer.diff(reconciled.kernel)) {
            diff.in_sync = lines->empty();
            diff.total = lines->size();
            for (const std::string& line : *lines) {
              const auto colon = line.find(": ");
              const auto space = line.find(' ');
              diff.differences.push_back(
                  {line.substr(0, space), line.substr(space + 1, colon - space - 1), line.substr(colon + 2), ""});
            }
            result = std::move(diff);
          } else {
            result = std::unexpected(lines.error());
          }
        }
        agent_.loop_.loop->post(
            [reply = std::move(reply), result = std::move(result)]() mutable { reply(std::move(result)); });
      });
}

api::ConfigView AgentAdmin::config() {
  const ConfigKeeper::State& state = agent_.config_->state();
  return {state.path, state.config.read_files,
          api::Json::parse(show_config(state.config, Format::kJson), nullptr, false)};
}

std::string AgentAdmin::config_schema() { return app::config_schema(); }

api::LogView AgentAdmin::log_level() { return {std::string(base::log::to_string(base::log::level()))}; }

base::Result<api::LogView> AgentAdmin::set_log_level(const api::LogView& request) {
  const auto level = base::log::level_from(request.level);
  if (!level) {
    return base::fail(ErrorKind::kInvalid, "set the log level to '" + request.level + "': no such level",
                      "use debug, info, warn or error");
  }
  base::log::set_level(*level);
  return log_level();
}

void AgentAdmin::metrics(Reply<std::string> reply) { agent_.scrape_->request(std::move(reply)); }

api::ReadyView AgentAdmin::ready() {
  const api::Status now = status();
  api::ReadyView view;
  const auto add = [&](std::string name, bool ok, std::string detail) {
    view.checks.push_back({std::move(name), ok, std::move(detail)});
  };
  add("tables", now.apply.generation_kernel > 0,
      now.apply.generation_kernel > 0 ? "applied " + now.apply.last_apply_at : "no table was applied yet");
  const bool known = std::ranges::any_of(
      now.sources, [](const auto& source) { return source.state == "synced" || source.state == "stale"; });
  add("sources", known, known ? "at least one source has answered" : "no source has answered yet");
  add_unless(now, view, "hooks", {"hook_not_attached", "hook_not_effective"}, "all hooks are effective");
  add_unless(now, view, "canary", {"canary_failed", "canary_old"}, "the last canary connections were balanced");
  add_unless(now, view, "apply", {"apply_failed", "map_full", "writer_stuck"}, "the kernel has what is wanted");
  add_unless(now, view, "drift", {"drift"}, describe_drift(now.drift));
  add_unless(now, view, "freshness", {"source_stale", "source_failed"}, "all sources are fresh");
  // Said, not failed: a service may be started after its mesh.
  const auto empty = std::ranges::find(now.conditions, "cgroup_empty", &api::Condition::name);
  add("applications", true, empty == now.conditions.end() ? "in all attached cgroups" : empty->message);
  view.ready = std::ranges::all_of(view.checks, &api::ReadyCheck::ok);
  return view;
}

void AgentAdmin::connections(const api::ConnectionRequest& request, Reply<std::string> reply) {
  agent_.jobs_->run(
      [this, request]() -> base::Result<std::string> {
        const ServiceNames names(agent_.reconciler_->latest()->snapshot, kInternalSource);
        return api::encode(MESH_TRY(list_connections(agent_.datapath_->maps(), agent_.datapath_->cgroup_root(), names,
                                                     request, base::steady_now())));
      },
      std::move(reply));
}

void AgentAdmin::flows(const api::FlowRequest& request, Reply<std::string> reply) {
  agent_.jobs_->run(
      [this, request]() -> base::Result<std::string> {
        const ServiceNames names(agent_.reconciler_->latest()->snapshot, kInternalSource);
        api::FlowList list = MESH_TRY(list_flows(agent_.flows_, agent_.datapath_->cgroup_root(), names, request,
                                                 base::steady_now(), base::wall_now()));
        list.dropped_by_ring = MESH_TRY(datapath::read_reasons(agent_.datapath_->maps()))[MESH_REASON_EVENTS_DROPPED];
        return api::encode(list);
      },
      std::move(reply));
}

void AgentAdmin::traffic(const api::TrafficRequest& request, Reply<std::string> reply) {
  agent_.jobs_->run(
      [this, request]() -> base::Result<std::string> {
        const auto reconciled = agent_.reconciler_->latest();
        MESH_CHECK(agent_.service_metrics_->note(*reconciled));
        return api::encode(MESH_TRY(list_traffic(*agent_.datapath_, reconciled->routing, *agent_.service_metrics_,
                                                 agent_.flows_, request, base::steady_now())));
      },
      std::move(reply));
}

void AgentAdmin::history(const api::HistoryRequest& request, Reply<std::string> reply) {
  agent_.jobs_->run(
      [this, request]() -> base::Result<std::string> {
        const api::HistoryList list = agent_.journal_->read(request, base::wall_now());
        if (list.items.empty() && !request.service.empty()) {  // nothing of it, or nothing like it
          const auto snapshot = agent_.reconciler_->latest()->snapshot;
          const Target target = MESH_TRY(Target::parse(request.service));
          if (snapshot) MESH_CHECK(find_services(*snapshot, target));
        }
        return api::encode(list);
      },
      std::move(reply));
}

api::DrainList AgentAdmin::drains() { return agent_.drainer_->list(); }

base::Result<api::DrainList> AgentAdmin::drain(const api::DrainRequest& request) {
  return agent_.drainer_->order(request);
}

base::Result<api::PauseView> AgentAdmin::pause(const api::PauseRequest& request, const std::string& by) {
  const auto until = base::steady_now() + std::chrono::seconds(request.seconds);
  return set_pause(request.service, static_cast<std::uint64_t>(until.time_since_epoch().count()), by);
}

base::Result<api::PauseView> AgentAdmin::resume(const api::ResumeRequest& request, const std::string& by) {
  return set_pause(request.service, 0, by);
}

base::Result<api::PauseView> AgentAdmin::set_pause(const std::string& service, std::uint64_t until_ns,
                                                   const std::string& by) {
  api::PauseView view;
  const std::string until = describe_pause(until_ns, base::wall_now());
  const auto note = [&](std::string label) {
    agent_.journal_->note({"", std::string(api::history::kPause), std::move(label), "",
                           (until.empty() ? "resumed" : "connects pass untouched until " + until) + " (" + by + ")",
                           1});
  };
  if (service.empty()) {
    agent_.datapath_->pause_all(until_ns);
    note("");
    view.items.push_back({"mesh", until});
    return view;
  }
  const auto reconciled = agent_.reconciler_->latest();
  const Page page = MESH_TRY(page_of({.service = service, .after = {}, .limit = api::kPageLimitMax}, *reconciled));
  kernel_.refresh(reconciled->applies);
  for (const auto& route : page.routes) {
    const std::uint32_t id = kernel_.service_id(route->service->frontend);
    if (id == 0) continue;
    agent_.datapath_->pause_service(id, until_ns);
    view.items.push_back({service_label(*route->service), until});
    note(view.items.back().target);
  }
  return view;
}

void AgentAdmin::reload(Reply<api::ReloadView> reply) { agent_.reload(std::move(reply)); }

void AgentAdmin::detach(Reply<api::DetachView> reply) { agent_.detach(std::move(reply)); }

}  // namespace mesh::app
