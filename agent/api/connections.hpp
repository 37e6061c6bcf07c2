// SPDX-License-Identifier: Apache-2.0
// Live connections (GET /v1/connections) and those that have ended (GET /v1/flows).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

/// One balanced socket that is open now: its owner record, and what the kernel's socket says.
struct ConnectionView {
  std::uint64_t cookie = 0;  ///< of the socket
  std::string service;       ///< its name; empty: the service is gone
  std::string frontend;      ///< what the application asked for: "240.64.0.10:80/tcp"
  std::string backend;       ///< where it went: "10.0.0.11:8080"
  std::string local;         ///< "" where the socket could not be seen, as for all that follows from it
  bool feedback = true;      ///< false: the service's `feedback` is off, so nobody wrote down who connected
  std::uint32_t pid = 0;     ///< of the process that connected; 0: unknown
  std::string process;       ///< its name then
  std::uint64_t cgroup_id = 0;
  std::string cgroup;  ///< path below the cgroup2 mount; empty: unknown, or gone
  std::uint64_t netns_cookie = 0;
  std::uint64_t netns_inode = 0;  ///< of /proc/PID/ns/net; 0: not resolved
  double age_s = 0;
  std::optional<std::uint32_t> connect_us;  ///< null: not established, UDP, or feedback off
  std::string state;                        ///< "established", "syn_sent", "close_wait", "closed", ...; "" unknown
  std::string path = "direct";              ///< how its bytes travel; "relay": to the relay, which speaks TLS
  std::optional<std::uint64_t> bytes_out;   ///< acknowledged by the peer
  std::optional<std::uint64_t> bytes_in;
  std::optional<std::uint32_t> srtt_us;  ///< null: none measured
  std::optional<std::uint32_t> retransmits;
  static void fields(auto& self, auto& visit) {
    visit("cookie", self.cookie);
    visit("service", self.service);
    visit("frontend", self.frontend);
    visit("backend", self.backend);
    visit("local", self.local);
    visit("feedback", self.feedback);
    visit("pid", self.pid);
    visit("process", self.process);
    visit("cgroup_id", self.cgroup_id);
    visit("cgroup", self.cgroup);
    visit("netns_cookie", self.netns_cookie);
    visit("netns_inode", self.netns_inode);
    visit("age_s", self.age_s);
    visit("connect_us", self.connect_us);
    visit("state", self.state);
    visit("path", self.path);
    visit("bytes_out", self.bytes_out);
    visit("bytes_in", self.bytes_in);
    visit("srtt_us", self.srtt_us);
    visit("retransmits", self.retransmits);
  }
};

inline constexpr std::uint32_t kConnectionLimitDefault = 1000;
inline constexpr std::uint32_t kConnectionLimitMax = 100000;

/// Whose connections: of /v1/connections and /v1/flows. What is empty or 0 says nothing.
struct ConnectionFilter {
  std::string service;  ///< NAME, NAME:PORT or ADDR:PORT
  std::string backend;  ///< ADDR or ADDR:PORT
  std::uint32_t pid = 0;
  std::string cgroup;       ///< path, which includes what is below, or the name of one of its parts
  std::uint64_t netns = 0;  ///< cookie or inode
};

struct ConnectionRequest {
  ConnectionFilter filter;
  std::string state;
  std::uint32_t limit = kConnectionLimitDefault;  ///< the oldest that many
};

/// Oldest first.
struct ConnectionList {
  static constexpr std::string_view kKind = "ConnectionList";
  std::uint64_t total = 0;      ///< that match
  std::uint64_t truncated = 0;  ///< of them not in `items`: beyond the limit
  std::vector<ConnectionView> items;
  std::vector<std::string> unreachable;  ///< network namespaces whose sockets could not be seen, and why
  static void fields(auto& self, auto& visit) {
    visit("total", self.total);
    visit("truncated", self.truncated);
    visit("items", self.items);
    visit("unreachable", self.unreachable);
  }
};

/// One connection that ended.
struct FlowView {
  std::uint64_t id = 0;
  std::string time;  ///< of its end
  std::string service;
  std::string frontend;
  std::string backend;
  std::uint32_t pid = 0;
  std::string process;
  std::uint64_t cgroup_id = 0;
  std::string cgroup;
  std::uint64_t netns_cookie = 0;
  std::string path = "direct";  ///< as in ConnectionView
  std::string outcome;          ///< "closed", "refused", "timed_out", "unreachable", "aborted", "reset", ...
  bool failed = false;          ///< refused, timed_out, unreachable, reset or lost
  std::optional<std::uint32_t> connect_us;  ///< null: never established, or UDP
  double duration_s = 0;                    ///< connect() to close
  std::uint64_t bytes_out = 0;
  std::uint64_t bytes_in = 0;
  std::optional<std::uint32_t> srtt_us;
  std::uint32_t retransmits = 0;
  static void fields(auto& self, auto& visit) {
    visit("id", self.id);
    visit("time", self.time);
    visit("service", self.service);
    visit("frontend", self.frontend);
    visit("backend", self.backend);
    visit("pid", self.pid);
    visit("process", self.process);
    visit("cgroup_id", self.cgroup_id);
    visit("cgroup", self.cgroup);
    visit("netns_cookie", self.netns_cookie);
    visit("path", self.path);
    visit("outcome", self.outcome);
    visit("failed", self.failed);
    visit("connect_us", self.connect_us);
    visit("duration_s", self.duration_s);
    visit("bytes_out", self.bytes_out);
    visit("bytes_in", self.bytes_in);
    visit("srtt_us", self.srtt_us);
    visit("retransmits", self.retransmits);
  }
};

inline constexpr std::uint32_t kFlowLimitDefault = 100;
inline constexpr std::uint32_t kFlowLimitMax = 16384;

/// Query of /v1/flows. `after` 0: the newest `limit`; else those that came since, oldest first.
struct FlowRequest {
  ConnectionFilter filter;
  std::string outcome;
  bool failed = false;  ///< failures only
  std::uint64_t after = 0;
  std::uint32_t limit = kFlowLimitDefault;
};

/// Samples: a connection is missing here when the kernel's ring was full, or when the log was overwritten. Counters
/// (/v1/traffic) miss nothing.
struct FlowList {
  static constexpr std::string_view kKind = "FlowList";
  std::vector<FlowView> items;        ///< oldest first
  std::uint64_t next = 0;             ///< for `after`
  std::uint64_t read = 0;             ///< samples since the agent's start
  std::uint64_t dropped_by_log = 0;   ///< overwritten between `after` and the oldest that is kept
  std::uint64_t dropped_by_ring = 0;  ///< since the tables were made: the kernel found the ring full
  static void fields(auto& self, auto& visit) {
    visit("items", self.items);
    visit("next", self.next);
    visit("read", self.read);
    visit("dropped_by_log", self.dropped_by_log);
    visit("dropped_by_ring", self.dropped_by_ring);
  }
};

}  // namespace mesh::api
