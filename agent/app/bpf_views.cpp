// SPDX-License-Identifier: Apache-2.0
#include "app/bpf_views.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <unordered_set>

#include "app/change_notes.hpp"
#include "app/connections.hpp"
#include "app/views.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "datapath/bpf_map_store.hpp"
#include "datapath/counters.hpp"
#include "datapath/inspect.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/owners.hpp"
#include "datapath/records.hpp"
#include "datapath/tracers.hpp"

namespace mesh::app {
namespace {

constexpr std::array<std::string_view, 7> kTables = {"control", "frontends", "services", "ranges",
                                                     "slots",   "backends",  "owners"};

std::string wall_text(std::uint64_t wall_ns) {
  if (wall_ns == 0) return {};
  return base::format_rfc3339(base::WallTime(base::Duration(static_cast<std::int64_t>(wall_ns))));
}

std::string text_of(const char* field, std::size_t size) { return {field, ::strnlen(field, size)}; }

api::ControlRow control_row(const mesh_control& control) {
  api::ControlRow row;
  row.layout = fmt::format("{}.{}", control.layout_major, control.layout_minor);
  row.pass_until = describe_pause(control.pass_until_ns, base::wall_now());
  row.exempt_cgroup_id = control.exempt_cgroup_id;
  row.exempt_relay_cgroup = control.exempt_relay_cgroup;
  row.generation = control.generation;
  row.applied_at = wall_text(control.applied_wall_ns);
  row.agent_started_at = wall_text(control.agent_start_wall_ns);
  row.agent_pid = control.agent_pid;
  row.holder = text_of(control.holder, sizeof(control.holder));
  row.version = text_of(control.version, sizeof(control.version));
  return row;
}

/// Fills one page of one table at a time.
class Dumper {
 public:
  Dumper(const datapath::MapSet& maps, const api::DumpRequest& request, api::BpfDump& dump)
      : maps_(maps), store_(maps), request_(request), dump_(dump) {}

  base::Result<void> frontends() {
    std::vector<api::FrontendRow> rows;
    MESH_CHECK(store_.for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t service_id) {
      rows.push_back({datapath::to_string(key), service_id});
    }));
    std::ranges::sort(rows, {}, &api::FrontendRow::frontend);
    for (std::size_t index = request_.after; index < rows.size(); ++index) {
      if (!room(dump_.frontends.size(), index)) break;
      dump_.frontends.push_back(std::move(rows[index]));
    }
    return {};
  }

  void services() {
    each_id(store_.sizes().services, dump_.services, [&](std::uint32_t id) -> std::optional<api::ServiceRow> {
      const mesh_service service = store_.service(id);
      if (service.flags == 0) return std::nullopt;
      const std::uint64_t state = store_.state(id);
      return api::ServiceRow{id,
                             datapath::to_string(service.frontend),
                             service.flags,
                             describe_pause(service.pass_until_ns, base::wall_now()),
                             datapath::generation_of(state),
                             datapath::range_of(state)};
    });
  }

  void ranges() {
    each_id(store_.sizes().ranges, dump_.ranges, [&](std::uint32_t id) -> std::optional<api::RangeRow> {
      const mesh_range range = store_.range(id);
      if (range.service_id == 0) return std::nullopt;
      return api::RangeRow{id,
                           range.service_id,
                           range.base,
                           range.count,
                           std::string(model::to_string(static_cast<model::Algorithm>(range.algorithm))),
                           std::string(model::to_string(static_cast<model::HashKey>(range.hash_key))),
                           range.seed,
                           range.affinity_timeout_s};
    });
  }

  void slots() {
    each_id(store_.sizes().slots, dump_.slots, [&](std::uint32_t id) -> std::optional<api::SlotRow> {
      const mesh_slot slot = store_.slot(id);
      if (slot.backend_id == 0) return std::nullopt;
      return api::SlotRow{id, slot.backend_id, slot.tag};
    });
  }

  void backends() {
    each_id(store_.sizes().backends, dump_.backends, [&](std::uint32_t id) -> std::optional<api::BackendRow> {
      const mesh_backend backend = store_.backend(id);
      if (backend.service_id == 0) return std::nullopt;
      const mesh_backend_live live = datapath::read_backend_live(maps_, id);
      return api::BackendRow{id,
                             datapath::address_of(backend).to_string(),
                             backend.service_id,
                             backend.weight,
                             backend.generation,
                             (backend.flags & MESH_BACKEND_USABLE) != 0,
                             live.opened,
                             live.closed,
                             live.established,
                             live.failed};
    });
  }

  base::Result<void> owners() {
    std::vector<api::OwnerRow> rows;
    const auto now = base::steady_now().time_since_epoch();
    const auto memory = MESH_TRY(datapath::OwnerMemory::map(maps_, datapath::Access::kRead));
    memory.for_each([&](const mesh_owner& owner) {
      mesh_frontend_key frontend{};
      std::memcpy(frontend.addr, owner.frontend_addr, sizeof(frontend.addr));
      frontend.port_be = owner.frontend_port_be;
      frontend.proto = owner.proto;
      mesh_backend backend{};
      std::memcpy(backend.addr, owner.backend_addr, sizeof(backend.addr));
      backend.port_be = owner.backend_port_be;
      const auto age = now - base::Duration(static_cast<std::int64_t>(owner.start_ns));
      rows.push_back({owner.cookie, datapath::to_string(frontend), datapath::address_of(backend).to_string(),
                      owner.service_id, owner.backend_id, owner.pid, owner.cgroup_id,
                      std::chrono::duration<double>(age).count()});
    });
    std::ranges::sort(rows, {}, &api::OwnerRow::cookie);
    for (const api::OwnerRow& row : rows) {
      if (row.cookie <= request_.after && request_.after != 0) continue;
      if (!room(dump_.owners.size(), dump_.owners.empty() ? 0 : dump_.owners.back().cookie)) break;
      dump_.owners.push_back(row);
    }
    return {};
  }

 private:
  /// Whether one more row fits; if not, notes where the next page begins.
  bool room(std::size_t rows, std::uint64_t cursor) {
    if (rows < request_.limit) return true;
    dump_.truncated = true;
    if (!request_.table.empty()) dump_.next = cursor;
    return false;
  }

  template <typename Row, typename Make>
  void each_id(std::uint32_t size, std::vector<Row>& rows, Make make) {
    std::uint64_t last = request_.table.empty() ? 0 : request_.after;
    for (std::uint64_t id = last + 1; id < size; ++id) {
      auto row = make(static_cast<std::uint32_t>(id));
      if (!row) continue;
      if (!room(rows.size(), last)) return;
      rows.push_back(std::move(*row));
      last = id;
    }
  }

  const datapath::MapSet& maps_;
  const datapath::BpfMapStore store_;
  const api::DumpRequest& request_;
  api::BpfDump& dump_;
};

/// The configured cgroups and those that pinned links are attached to: the links know when the configuration is not
/// at hand.
std::vector<std::string> served_cgroups(const std::string& links_folder, const std::string& cgroup_root,
                                        std::vector<std::string> cgroups) {
  std::unordered_set<std::uint64_t> ids;
  for (const auto& link : datapath::read_pinned_links(links_folder)) {
    if (link.live) ids.insert(link.cgroup_id);
  }
  const CgroupPaths paths(cgroup_root, ids);
  for (const std::uint64_t id : ids) {
    if (std::string path = paths.path(id); !path.empty()) cgroups.push_back(std::move(path));
  }
  return datapath::collapse_cgroups(cgroups);
}

/// What a frontend leads to, without the services that the agent makes for itself. An endpoint that went in the last
/// seconds of the agent may still be among them: the tables don't tell it from one that is down.
void count_services(const datapath::MapSet& maps, const AgentSettings& settings, api::Status& status) {
  const datapath::BpfMapStore store(maps);
  const datapath::BackendIndex backends(store);
  const auto counted = store.for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t service_id) {
    const std::string address = datapath::frontend_of(key).address.ip.to_string();
    if (address == settings.canary.address4 || address == settings.canary.address6) return;
    const auto& entries = backends.of(service_id);
    const auto own = [](const auto& entry) { return (entry.backend.flags & MESH_BACKEND_LISTENER) != 0; };
    if (std::ranges::any_of(entries, own)) return;
    ++status.services;
    status.endpoints += entries.size();
  });
  if (!counted) status.services = status.endpoints = 0;
}

}  // namespace

std::vector<api::PausedService> paused_services(const datapath::MapSet& maps, const model::RoutingTablePtr& routing,
                                                base::WallTime now) {
  std::vector<api::PausedService> paused;
  for (std::uint32_t id = 1; id < maps.sizes().services; ++id) {
    const auto service = maps.read<mesh_service>(datapath::Table::kServices, id);
    if (service.flags == 0) continue;
    std::string until = describe_pause(service.pass_until_ns, now);
    if (until.empty()) continue;
    paused.push_back({service_label(routing, datapath::frontend_of(service.frontend)), std::move(until)});
  }
  return paused;
}

api::HookView hook_view(const datapath::HookStatus& hook) {
  api::HookView view;
  view.cgroup = hook.cgroup;
  view.hook = hook.hook;
  view.program_id = hook.program_id;
  if (hook.attached) view.age_s = std::chrono::duration<double>(hook.program_age).count();
  view.attached = hook.attached;
  view.effective = hook.effective;
  view.detail = hook.error;
  return view;
}

base::Result<api::BpfDump> dump_tables(const datapath::MapSet& maps, const std::string& directory,
                                       const api::DumpRequest& request) {
  if (!request.table.empty() && std::ranges::find(kTables, request.table) == kTables.end()) {
    return base::fail(base::ErrorKind::kNotFound, "dump table '" + request.table + "': there is no such table",
                      fmt::format("use one of {}", fmt::join(kTables, ", ")));
  }
  api::BpfDump dump;
  dump.bpffs = directory;
  dump.control = control_row(maps.control());
  Dumper dumper(maps, request, dump);
  const auto wanted = [&](std::string_view table) { return request.table.empty() || request.table == table; };
  if (wanted("frontends")) MESH_CHECK(dumper.frontends());
  if (wanted("services")) dumper.services();
  if (wanted("ranges")) dumper.ranges();
  if (wanted("slots")) dumper.slots();
  if (wanted("backends")) dumper.backends();
  if (request.table == "owners") MESH_CHECK(dumper.owners());
  return dump;
}

base::Result<api::BpfStats> read_bpf_stats(const datapath::MapSet& maps,
                                           const std::vector<datapath::HookStatus>& hooks) {
  api::BpfStats stats;
  const auto enabled = base::read_file("/proc/sys/kernel/bpf_stats_enabled", 64);
  stats.stats_enabled = enabled && enabled->starts_with("1");
  std::set<std::uint32_t> seen;
  for (const auto& hook : hooks) {
    if (hook.program_id == 0 || !seen.insert(hook.program_id).second) continue;
    const auto info = datapath::program_info(hook.program_id);
    if (!info) continue;  // it was detached meanwhile
    stats.programs.push_back({info->name, std::string(hook.hook), hook.program_id, info->runs, info->run_time_ns,
                              info->instructions, info->misses});
  }
  const datapath::ReasonCounts counts = MESH_TRY(datapath::read_reasons(maps));
  for (std::uint32_t reason = 1; reason < MESH_REASON_COUNT; ++reason) {
    stats.reasons.push_back(
        {std::string(datapath::reason_label(reason)), std::string(datapath::reason_text(reason)), counts[reason]});
  }
  return stats;
}

api::Status status_from_pins(const datapath::MapSet& maps, const AgentSettings& settings) {
  const auto now = base::wall_now();
  const api::ControlRow control = control_row(maps.control());
  api::Status status;
  status.state = "agent_down";
  status.version = control.version;
  status.pid = control.agent_pid;
  status.started_at = control.agent_started_at;
  status.pass_until = control.pass_until;
  status.mode = control.pass_until.empty() ? "active" : "pass_through";
  status.bpffs = settings.bpffs;
  status.apply.generation_kernel = control.generation;
  status.apply.last_apply_at = control.applied_at;
  if (const std::uint64_t applied = maps.control().applied_wall_ns; applied != 0) {
    const auto when = base::WallTime(base::Duration(static_cast<std::int64_t>(applied)));
    status.apply.last_apply_ago_s = std::chrono::duration<double>(now - when).count();
  }
  status.conditions.push_back(
      {"agent_down", "degraded", "no agent runs: the tables stay as they are, nothing is probed",
       "start it: systemctl start meshd; one of another configuration is named with --socket or --config"});
  if (const auto uses = datapath::read_map_use(maps)) {
    for (const auto& use : *uses) {
      status.maps.push_back({std::string(datapath::to_string(use.table)), use.used, use.capacity, use.memory_bytes});
    }
  }
  count_services(maps, settings, status);
  status.paused = paused_services(maps, nullptr, now);
  if (auto condition = paused_condition(status)) status.conditions.push_back(*std::move(condition));
  const auto root =
      settings.cgroup_root.empty() ? datapath::find_cgroup2_mount() : base::Result<std::string>(settings.cgroup_root);
  if (!root) return status;
  const std::string links = settings.bpffs + "/links";
  for (const auto& hook : datapath::hook_status(links, *root, served_cgroups(links, *root, settings.cgroups))) {
    status.hooks.push_back(hook_view(hook));
  }
  // A kernel without the tracepoints has neither, and nobody is here to say so.
  const auto tracers = datapath::tracer_status(links);
  if (std::ranges::any_of(tracers, &datapath::HookStatus::attached)) {
    for (const auto& tracer : tracers) status.hooks.push_back(hook_view(tracer));
  }
  return status;
}

}  // namespace mesh::app
