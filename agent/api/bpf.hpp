// SPDX-License-Identifier: Apache-2.0
// The kernel tables as they are: GET /v1/bpf/dump, /v1/bpf/diff, /v1/bpf/stats, and `meshd dump` with the agent dead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/status.hpp"

namespace mesh::api {

struct ControlRow {
  std::string layout;      ///< "1.0"
  std::string pass_until;  ///< "" active, "forever", or a time
  std::uint64_t exempt_cgroup_id = 0;
  std::uint32_t exempt_relay_cgroup = 0;  ///< The lower half of its id.
  std::uint64_t generation = 0;
  std::string applied_at;
  std::string agent_started_at;
  std::uint32_t agent_pid = 0;
  std::string holder;
  std::string version;
  static void fields(auto& self, auto& visit) {
    visit("layout", self.layout);
    visit("pass_until", self.pass_until);
    visit("exempt_cgroup_id", self.exempt_cgroup_id);
    visit("exempt_relay_cgroup", self.exempt_relay_cgroup);
    visit("generation", self.generation);
    visit("applied_at", self.applied_at);
    visit("agent_started_at", self.agent_started_at);
    visit("agent_pid", self.agent_pid);
    visit("holder", self.holder);
    visit("version", self.version);
  }
};

struct FrontendRow {
  std::string frontend;  ///< "240.64.0.10:80/tcp"
  std::uint32_t service_id = 0;
  static void fields(auto& self, auto& visit) {
    visit("frontend", self.frontend);
    visit("service_id", self.service_id);
  }
};

struct ServiceRow {
  std::uint32_t id = 0;
  std::string frontend;
  std::uint32_t flags = 0;
  std::string paused_until;
  std::uint32_t generation = 0;  ///< upper half of service_state
  std::uint32_t range_id = 0;    ///< lower half
  static void fields(auto& self, auto& visit) {
    visit("id", self.id);
    visit("frontend", self.frontend);
    visit("flags", self.flags);
    visit("paused_until", self.paused_until);
    visit("generation", self.generation);
    visit("range_id", self.range_id);
  }
};

struct RangeRow {
  std::uint32_t id = 0;
  std::uint32_t service_id = 0;
  std::uint32_t base = 0;
  std::uint32_t count = 0;
  std::string algorithm;
  std::string hash_key;
  std::uint32_t seed = 0;
  std::uint32_t affinity_timeout_s = 0;
  static void fields(auto& self, auto& visit) {
    visit("id", self.id);
    visit("service_id", self.service_id);
    visit("base", self.base);
    visit("count", self.count);
    visit("algorithm", self.algorithm);
    visit("hash_key", self.hash_key);
    visit("seed", self.seed);
    visit("affinity_timeout_s", self.affinity_timeout_s);
  }
};

struct SlotRow {
  std::uint32_t index = 0;
  std::uint32_t backend_id = 0;
  std::uint32_t tag = 0;  ///< service id, or the threshold of a weighted random entry
  static void fields(auto& self, auto& visit) {
    visit("index", self.index);
    visit("backend_id", self.backend_id);
    visit("tag", self.tag);
  }
};

struct BackendRow {
  std::uint32_t id = 0;
  std::string address;
  std::uint32_t service_id = 0;
  std::uint32_t weight = 0;
  std::uint32_t generation = 0;
  bool usable = false;
  std::uint64_t opened = 0;       ///< connect()s sent there
  std::uint64_t closed = 0;       ///< of them: sockets that were closed or connected anew
  std::uint64_t established = 0;  ///< with feedback, as the next
  std::uint64_t failed = 0;
  static void fields(auto& self, auto& visit) {
    visit("id", self.id);
    visit("address", self.address);
    visit("service_id", self.service_id);
    visit("weight", self.weight);
    visit("generation", self.generation);
    visit("usable", self.usable);
    visit("opened", self.opened);
    visit("closed", self.closed);
    visit("established", self.established);
    visit("failed", self.failed);
  }
};

struct OwnerRow {
  std::uint64_t cookie = 0;  ///< of the socket
  std::string frontend;
  std::string backend;
  std::uint32_t service_id = 0;
  std::uint32_t backend_id = 0;
  std::uint32_t pid = 0;
  std::uint64_t cgroup_id = 0;
  double age_s = 0;
  static void fields(auto& self, auto& visit) {
    visit("cookie", self.cookie);
    visit("frontend", self.frontend);
    visit("backend", self.backend);
    visit("service_id", self.service_id);
    visit("backend_id", self.backend_id);
    visit("pid", self.pid);
    visit("cgroup_id", self.cgroup_id);
    visit("age_s", self.age_s);
  }
};

inline constexpr std::uint32_t kDumpLimitDefault = 1000;
inline constexpr std::uint32_t kDumpLimitMax = 10000;

/// Query of /v1/bpf/dump.
struct DumpRequest {
  std::string
      table;  ///< "control", "frontends", "services", "ranges", "slots", "backends", "owners"; empty: all but owners
  std::uint64_t after = 0;  ///< last id of the page before; frontends: its place in the order of the dump
  std::uint32_t limit = kDumpLimitDefault;  ///< rows per table
};

/// Tables that were not asked for are empty.
struct BpfDump {
  static constexpr std::string_view kKind = "BpfDump";
  std::string bpffs;
  ControlRow control;
  std::vector<FrontendRow> frontends;
  std::vector<ServiceRow> services;
  std::vector<RangeRow> ranges;
  std::vector<SlotRow> slots;
  std::vector<BackendRow> backends;
  std::vector<OwnerRow> owners;
  std::vector<MapFill> maps;
  bool truncated = false;  ///< there is more than `limit` rows
  std::uint64_t next = 0;  ///< for `after`, when one table was asked for
  static void fields(auto& self, auto& visit) {
    visit("bpffs", self.bpffs);
    visit("control", self.control);
    visit("frontends", self.frontends);
    visit("services", self.services);
    visit("ranges", self.ranges);
    visit("slots", self.slots);
    visit("backends", self.backends);
    visit("owners", self.owners);
    visit("maps", self.maps);
    visit("truncated", self.truncated);
    visit("next", self.next);
  }
};

struct Difference {
  std::string table;
  std::string key;   ///< id, or the frontend
  std::string want;  ///< for people; empty: must not exist
  std::string have;
  static void fields(auto& self, auto& visit) {
    visit("table", self.table);
    visit("key", self.key);
    visit("want", self.want);
    visit("have", self.have);
  }
};

/// What the agent wants against what the kernel has. `total` counts all; `differences` holds the first ones.
struct BpfDiff {
  static constexpr std::string_view kKind = "BpfDiff";
  bool in_sync = false;
  std::uint64_t generation = 0;
  std::uint64_t compared = 0;  ///< entries looked at
  std::uint64_t total = 0;
  std::vector<Difference> differences;
  static void fields(auto& self, auto& visit) {
    visit("in_sync", self.in_sync);
    visit("generation", self.generation);
    visit("compared", self.compared);
    visit("total", self.total);
    visit("differences", self.differences);
  }
};

struct ProgramStats {
  std::string name;  ///< "mesh_connect4"
  std::string hook;
  std::uint32_t program_id = 0;
  std::uint64_t runs = 0;  ///< 0 while kernel.bpf_stats_enabled is 0
  std::uint64_t run_time_ns = 0;
  std::uint64_t instructions = 0;  ///< as verified
  std::uint64_t misses = 0;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("hook", self.hook);
    visit("program_id", self.program_id);
    visit("runs", self.runs);
    visit("run_time_ns", self.run_time_ns);
    visit("instructions", self.instructions);
    visit("misses", self.misses);
  }
};

struct ReasonCount {
  std::string name;  ///< label of bpf/include/mesh_reasons.h
  std::string text;
  std::uint64_t count = 0;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("text", self.text);
    visit("count", self.count);
  }
};

struct BpfStats {
  static constexpr std::string_view kKind = "BpfStats";
  bool stats_enabled = false;  ///< sysctl kernel.bpf_stats_enabled
  std::vector<ProgramStats> programs;
  std::vector<ReasonCount> reasons;
  std::vector<MapFill> maps;
  static void fields(auto& self, auto& visit) {
    visit("stats_enabled", self.stats_enabled);
    visit("programs", self.programs);
    visit("reasons", self.reasons);
    visit("maps", self.maps);
  }
};

}  // namespace mesh::api
