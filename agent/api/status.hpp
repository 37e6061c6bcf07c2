// SPDX-License-Identifier: Apache-2.0
// GET /v1/status: one document that says whether connects are really balanced, and what proves it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/common.hpp"
#include "api/relay.hpp"

namespace mesh::api {

/// Something that makes the agent degraded (severity "degraded") or that people should know ("notice").
struct Condition {
  std::string name;  ///< stable, snake_case: "hook_not_effective", "source_stale", "config_invalid", "map_full", ...
  std::string severity;
  std::string message;
  std::string remedy;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("severity", self.severity);
    visit("message", self.message);
    visit("remedy", self.remedy);
  }
};

/// One program on one hook of one attached cgroup.
struct HookView {
  std::string cgroup;  ///< path below the cgroup2 mount: "/system.slice/shop.service"; "tracepoint": of the whole host
  std::string hook;    ///< "connect4"; the tracepoint's name
  std::uint32_t program_id = 0;  ///< 0: not attached
  std::optional<double> age_s;   ///< since the program was loaded
  bool attached = false;
  std::optional<bool> effective;  ///< proven by the canary or by the kernel's list of effective programs; null: unknown
  std::string detail;
  static void fields(auto& self, auto& visit) {
    visit("cgroup", self.cgroup);
    visit("hook", self.hook);
    visit("program_id", self.program_id);
    visit("age_s", self.age_s);
    visit("attached", self.attached);
    visit("effective", self.effective);
    visit("detail", self.detail);
  }
};

/// The last connect that the canary made from a leaf under an attached cgroup.
struct CanaryView {
  std::string cgroup;
  std::string path;    ///< "tcp4", "tcp6", "udp4", "udp6"
  std::string result;  ///< "ok", "failed", "unknown" (not run yet), "skipped" (no such address family)
  std::string detail;
  std::optional<double> checked_ago_s;
  static void fields(auto& self, auto& visit) {
    visit("cgroup", self.cgroup);
    visit("path", self.path);
    visit("result", self.result);
    visit("detail", self.detail);
    visit("checked_ago_s", self.checked_ago_s);
  }
};

/// Whether applications are where the hooks of an attached cgroup are.
struct CgroupView {
  std::string cgroup;
  std::optional<bool>
      populated;  ///< a process lives in it or below; the agent and its canary don't count; null: unknown
  std::string since;
  static void fields(auto& self, auto& visit) {
    visit("cgroup", self.cgroup);
    visit("populated", self.populated);
    visit("since", self.since);
  }
};

/// One pinned map.
struct MapFill {
  std::string name;
  /// Counted, not estimated. Null where fullness means nothing: fixed numbers, maps that others' ids lead into, what
  /// lives in sockets, the ring.
  std::optional<std::uint64_t> used;
  std::uint64_t size = 0;
  std::uint64_t bytes = 0;  ///< kernel memory
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("used", self.used);
    visit("size", self.size);
    visit("bytes", self.bytes);
  }
};

struct ApplyView {
  std::uint64_t generation_desired = 0;
  std::uint64_t generation_kernel = 0;
  std::string last_apply_at;  ///< empty: never
  std::optional<double> last_apply_ago_s;
  double last_apply_duration_s = 0;
  std::uint64_t applies = 0;
  std::uint64_t failures = 0;
  std::string error;                    ///< of the last failed apply, while it stands
  double behind_s = 0;                  ///< how long the oldest change that is not in the kernel has been waiting
  std::optional<double> audited_ago_s;  ///< since the kernel's tables were read back and compared; null: not yet
  static void fields(auto& self, auto& visit) {
    visit("generation_desired", self.generation_desired);
    visit("generation_kernel", self.generation_kernel);
    visit("last_apply_at", self.last_apply_at);
    visit("last_apply_ago_s", self.last_apply_ago_s);
    visit("last_apply_duration_s", self.last_apply_duration_s);
    visit("applies", self.applies);
    visit("failures", self.failures);
    visit("error", self.error);
    visit("behind_s", self.behind_s);
    visit("audited_ago_s", self.audited_ago_s);
  }
};

/// Programs that the mesh can do without and the kernel did not take.
struct RefusedView {
  std::string feature;  ///< "explain", "kill", "census" or "tracing"
  std::string why;      ///< the end of what the kernel said
  static void fields(auto& self, auto& visit) {
    visit("feature", self.feature);
    visit("why", self.why);
  }
};

/// What anti-entropy found: the kernel's tables compared with what is wanted, the books of backends with the records of
/// sockets.
struct DriftView {
  std::uint64_t tables_repaired = 0;  ///< differences since start
  std::uint64_t books_repaired = 0;   ///< backends since start
  std::uint64_t standing = 0;         ///< found and not repaired
  std::string error;                  ///< why not, or why nothing was compared
  std::string last;                   ///< what was repaired last: one of it
  std::optional<double> last_ago_s;
  static void fields(auto& self, auto& visit) {
    visit("tables_repaired", self.tables_repaired);
    visit("books_repaired", self.books_repaired);
    visit("standing", self.standing);
    visit("error", self.error);
    visit("last", self.last);
    visit("last_ago_s", self.last_ago_s);
  }
};

/// Owner records of old connections, compared with the sockets that live.
struct RecordsView {
  std::uint64_t passes = 0;
  std::uint64_t freed = 0;        ///< since start: their sockets had gone without passing sock_release
  std::uint64_t unreachable = 0;  ///< in the last pass: in a network namespace that can't be entered
  std::string error;              ///< why the last pass was not made
  static void fields(auto& self, auto& visit) {
    visit("passes", self.passes);
    visit("freed", self.freed);
    visit("unreachable", self.unreachable);
    visit("error", self.error);
  }
};

/// How often a source failed in this way.
struct ErrorCount {
  std::string kind;  ///< "timeout"
  std::uint64_t count = 0;
  static void fields(auto& self, auto& visit) {
    visit("kind", self.kind);
    visit("count", self.count);
  }
};

/// An answer that its receiver did not take over, and said so (xDS: NACK).
struct RefusalView {
  std::string client;  ///< of the agent's own xDS server; empty: the agent refused what a source said
  std::string what;    ///< "clusters", "endpoints", ...
  std::string version;
  std::string why;  ///< names the resources
  std::string at;   ///< the last time
  std::uint64_t times = 0;
  static void fields(auto& self, auto& visit) {
    visit("client", self.client);
    visit("what", self.what);
    visit("version", self.version);
    visit("why", self.why);
    visit("at", self.at);
    visit("times", self.times);
  }
};

struct SourceView {
  std::string name;
  std::string type;   ///< "file", "dns"
  std::string state;  ///< "connecting", "synced", "stale", "failed"
  std::string since;  ///< of that state; empty: not noted
  std::string synced_at;
  std::optional<double> synced_ago_s;
  std::uint64_t updates = 0;
  std::uint64_t errors = 0;
  std::uint64_t services = 0;
  std::uint64_t endpoints = 0;
  std::vector<ErrorCount> errors_by_kind;
  std::optional<std::uint64_t> max_stale_s;  ///< Of a registry; none: its endpoints are used however old they are
  bool only_confirmed = false;               ///< it is stale for longer: only endpoints whose probe succeeds are used
  std::string error;
  std::string remedy;
  std::uint64_t refused = 0;          ///< answers of it, since start
  std::vector<RefusalView> refusals;  ///< the last of them, newest first
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("type", self.type);
    visit("state", self.state);
    visit("since", self.since);
    visit("synced_at", self.synced_at);
    visit("synced_ago_s", self.synced_ago_s);
    visit("updates", self.updates);
    visit("errors", self.errors);
    visit("errors_by_kind", self.errors_by_kind);
    visit("max_stale_s", self.max_stale_s);
    visit("only_confirmed", self.only_confirmed);
    visit("services", self.services);
    visit("endpoints", self.endpoints);
    visit("error", self.error);
    visit("remedy", self.remedy);
    visit("refused", self.refused);
    visit("refusals", self.refusals);
  }
};

struct ConflictView {
  std::string frontend;
  std::string winner;
  std::string loser;
  static void fields(auto& self, auto& visit) {
    visit("frontend", self.frontend);
    visit("winner", self.winner);
    visit("loser", self.loser);
  }
};

struct ProbesView {
  std::uint64_t endpoints = 0;  ///< that are probed
  std::uint64_t up = 0;
  std::uint64_t down = 0;
  std::uint64_t unknown = 0;
  double per_second = 0;  ///< started, over the last seconds
  std::uint64_t budget_per_second = 0;
  std::uint64_t delayed = 0;  ///< put off because of the budget, since start
  std::uint64_t services_in_panic = 0;
  static void fields(auto& self, auto& visit) {
    visit("endpoints", self.endpoints);
    visit("up", self.up);
    visit("down", self.down);
    visit("unknown", self.unknown);
    visit("per_second", self.per_second);
    visit("budget_per_second", self.budget_per_second);
    visit("delayed", self.delayed);
    visit("services_in_panic", self.services_in_panic);
  }
};

struct ConfigState {
  std::string path;
  bool last_reload_ok = true;
  std::string last_reload_at;
  std::string loaded_at;  ///< of what is in force; from the last good snapshot if `from_state` is set
  bool from_state = false;
  std::vector<DiagnosticView> errors;      ///< why the last reload was refused
  std::vector<std::string> needs_restart;  ///< changed keys that wait for the next start
  static void fields(auto& self, auto& visit) {
    visit("path", self.path);
    visit("last_reload_ok", self.last_reload_ok);
    visit("last_reload_at", self.last_reload_at);
    visit("loaded_at", self.loaded_at);
    visit("from_state", self.from_state);
    visit("errors", self.errors);
    visit("needs_restart", self.needs_restart);
  }
};

struct LoopView {
  std::string kind;    ///< "io_uring" or "epoll"
  std::string reason;  ///< why this one
  double longest_step_s = 0;
  static void fields(auto& self, auto& visit) {
    visit("kind", self.kind);
    visit("reason", self.reason);
    visit("longest_step_s", self.longest_step_s);
  }
};

/// The last good state on disk, which a start without a good configuration begins with.
struct StateView {
  std::string saved_at;  ///< Empty: not since start.
  std::string error;     ///< Of the last write, while it stands.
  std::string remedy;
  static void fields(auto& self, auto& visit) {
    visit("saved_at", self.saved_at);
    visit("error", self.error);
    visit("remedy", self.remedy);
  }
};

/// The certificate that the metrics listener shows.
struct CertificateView {
  std::string file;  ///< Empty: no TLS, and then all else is empty too.
  std::string expires_at;
  std::optional<double> expires_in_s;  ///< Negative: it has expired.
  std::string error;                   ///< Why the files as they are now are not in use.
  static void fields(auto& self, auto& visit) {
    visit("file", self.file);
    visit("expires_at", self.expires_at);
    visit("expires_in_s", self.expires_in_s);
    visit("error", self.error);
  }
};

struct PausedService {
  std::string service;  ///< "orders 240.64.0.10:80/tcp"
  std::string until;    ///< "forever", too
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("until", self.until);
  }
};

struct Status {
  static constexpr std::string_view kKind = "Status";
  std::string state;  ///< "healthy", "degraded", "starting", "stopping"; "agent_down" when read from the pins
  std::vector<Condition> conditions;
  std::string version;
  std::int64_t pid = 0;
  std::string started_at;
  std::optional<double> uptime_s;
  std::string mode;                   ///< "active" or "pass_through"
  std::string pass_until;             ///< when pass_through ends by itself; empty: never, or not paused
  std::vector<PausedService> paused;  ///< services whose connects pass untouched, whatever `mode` is
  std::string bpffs;
  std::uint64_t services = 0;
  std::uint64_t endpoints = 0;
  std::uint64_t services_refusing = 0;  ///< without a usable endpoint: connects to them are refused
  std::uint64_t endpoints_down = 0;     ///< that get nothing because of their probe
  std::uint64_t endpoints_ejected = 0;  ///< that get nothing because of what connections to them experienced
  std::vector<HookView> hooks;
  std::vector<CanaryView> canary;
  std::vector<CgroupView> cgroups;
  std::vector<RefusedView> refused;
  std::vector<MapFill> maps;
  ApplyView apply;
  DriftView drift;
  RecordsView records;
  std::vector<SourceView> sources;
  std::vector<ConflictView> conflicts;
  ProbesView probes;
  ConfigState config;
  StateView saved_state;
  LoopView loop;
  CertificateView metrics_certificate;
  RelayView relay;
  std::uint64_t memory_resident_bytes = 0;
  static void fields(auto& self, auto& visit) {
    visit("state", self.state);
    visit("conditions", self.conditions);
    visit("version", self.version);
    visit("pid", self.pid);
    visit("started_at", self.started_at);
    visit("uptime_s", self.uptime_s);
    visit("mode", self.mode);
    visit("pass_until", self.pass_until);
    visit("paused", self.paused);
    visit("bpffs", self.bpffs);
    visit("services", self.services);
    visit("endpoints", self.endpoints);
    visit("services_refusing", self.services_refusing);
    visit("endpoints_down", self.endpoints_down);
    visit("endpoints_ejected", self.endpoints_ejected);
    visit("hooks", self.hooks);
    visit("canary", self.canary);
    visit("cgroups", self.cgroups);
    visit("refused", self.refused);
    visit("maps", self.maps);
    visit("apply", self.apply);
    visit("drift", self.drift);
    visit("records", self.records);
    visit("sources", self.sources);
    visit("conflicts", self.conflicts);
    visit("probes", self.probes);
    visit("config", self.config);
    visit("saved_state", self.saved_state);
    visit("loop", self.loop);
    visit("metrics_certificate", self.metrics_certificate);
    visit("relay", self.relay);
    visit("memory_resident_bytes", self.memory_resident_bytes);
  }
};

/// GET /v1/sources
struct SourceList {
  static constexpr std::string_view kKind = "SourceList";
  std::vector<SourceView> items;
  std::vector<ConflictView> conflicts;
  std::vector<RefusalView> client_refusals;  ///< by clients of the agent's own xDS server, newest first
  static void fields(auto& self, auto& visit) {
    visit("items", self.items);
    visit("conflicts", self.conflicts);
    visit("client_refusals", self.client_refusals);
  }
};

/// GET /readyz?verbose: one line per condition for readiness.
struct ReadyCheck {
  std::string name;
  bool ok = false;
  std::string detail;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("ok", self.ok);
    visit("detail", self.detail);
  }
};

struct ReadyView {
  static constexpr std::string_view kKind = "Ready";
  bool ready = false;
  std::vector<ReadyCheck> checks;
  static void fields(auto& self, auto& visit) {
    visit("ready", self.ready);
    visit("checks", self.checks);
  }
};

}  // namespace mesh::api
