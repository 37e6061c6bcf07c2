// SPDX-License-Identifier: Apache-2.0
// Services, endpoints and explain. Lists come in pages, so that 10,000 services never make one long loop step: a page
// holds at most `limit` items, and `next` is what to ask with as `after` ("" after the last page).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/common.hpp"

namespace mesh::api {

inline constexpr std::uint32_t kPageLimitDefault = 200;
inline constexpr std::uint32_t kPageLimitMax = 1000;

struct ServiceCounters {
  std::uint64_t connects = 0;
  std::uint64_t datagrams = 0;
  std::uint64_t refused = 0;
  std::uint64_t refused_no_backend = 0;
  std::uint64_t passed = 0;
  std::uint64_t affinity_hits = 0;
  static void fields(auto& self, auto& visit) {
    visit("connects", self.connects);
    visit("datagrams", self.datagrams);
    visit("refused", self.refused);
    visit("refused_no_backend", self.refused_no_backend);
    visit("passed", self.passed);
    visit("affinity_hits", self.affinity_hits);
  }
};

struct ServiceView {
  std::string name;
  std::string frontend;           ///< "240.64.0.10:80/tcp"
  std::string algorithm;          ///< "round_robin"
  std::string hash_key;           ///< "namespace"; what maglev, source_hash and affinity hash
  std::uint64_t maglev_size = 0;  ///< 0: not maglev
  std::uint64_t affinity_timeout_s = 0;
  std::string probe;         ///< "http /healthz every 5s"; empty: not probed
  std::string source;        ///< "file"; "file+prod" where several say so together
  std::string origin;        ///< "meshd.yaml:6"
  std::string source_state;  ///< "synced"; of several the least fresh, as the next
  std::optional<double> source_synced_ago_s;
  bool only_confirmed = false;   ///< stale for too long: only endpoints whose probe succeeds get connections
  std::uint32_t service_id = 0;  ///< in the kernel tables; 0: not there (yet)
  std::uint64_t endpoints = 0;
  std::uint64_t eligible = 0;  ///< endpoints that get new connections
  bool panic = false;
  std::string paused_until;  ///< "" not paused, "forever", or a time
  ServiceCounters counters;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("frontend", self.frontend);
    visit("algorithm", self.algorithm);
    visit("hash_key", self.hash_key);
    visit("maglev_size", self.maglev_size);
    visit("affinity_timeout_s", self.affinity_timeout_s);
    visit("probe", self.probe);
    visit("source", self.source);
    visit("origin", self.origin);
    visit("source_state", self.source_state);
    visit("source_synced_ago_s", self.source_synced_ago_s);
    visit("only_confirmed", self.only_confirmed);
    visit("service_id", self.service_id);
    visit("endpoints", self.endpoints);
    visit("eligible", self.eligible);
    visit("panic", self.panic);
    visit("paused_until", self.paused_until);
    visit("counters", self.counters);
  }
};

struct EndpointView {
  std::string service;
  std::string frontend;
  std::string address;  ///< "10.0.0.11:8080"
  std::uint32_t weight = 0;
  double share = 0;         ///< of new connections, 0 to 1, as the kernel tables have it
  std::string eligibility;  ///< "eligible", "panic", "draining", "weight_zero", "ejected", "probe_down",
                            ///< "awaiting_check", "far", "unconfirmed"
  std::string verdict;      ///< "up", "down", "unknown"
  std::string reason;       ///< of the last probe: "refused", "timeout", ...
  std::string detail;       ///< "http 200"
  std::optional<double> checked_ago_s;
  std::string since;                   ///< of the verdict; empty: none yet
  std::uint32_t streak = 0;            ///< equal results in a row
  std::string ejection;                ///< "ejected", "probation"; empty: neither
  std::uint32_t ejections = 0;         ///< in a row
  std::string ejected_until;           ///< empty: not ejected
  std::uint32_t weight_percent = 100;  ///< of its weight, on probation or while it starts slowly
  std::string standing;                ///< why it is ejected, on probation or drained, for people
  std::string standing_since;
  std::uint32_t backend_id = 0;
  std::uint64_t picks = 0;  ///< times the kernel chose it
  std::string zone;         ///< as configured; empty: unknown
  std::string node;
  std::uint32_t tier = 0;  ///< 0 is used first
  std::string source;      ///< who said so
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("frontend", self.frontend);
    visit("address", self.address);
    visit("weight", self.weight);
    visit("share", self.share);
    visit("eligibility", self.eligibility);
    visit("verdict", self.verdict);
    visit("reason", self.reason);
    visit("detail", self.detail);
    visit("checked_ago_s", self.checked_ago_s);
    visit("since", self.since);
    visit("streak", self.streak);
    visit("ejection", self.ejection);
    visit("ejections", self.ejections);
    visit("ejected_until", self.ejected_until);
    visit("weight_percent", self.weight_percent);
    visit("standing", self.standing);
    visit("standing_since", self.standing_since);
    visit("backend_id", self.backend_id);
    visit("picks", self.picks);
    visit("zone", self.zone);
    visit("node", self.node);
    visit("tier", self.tier);
    visit("source", self.source);
  }
};

/// Query of /v1/services and /v1/endpoints.
struct ListRequest {
  std::string service;  ///< NAME, NAME:PORT or ADDR:PORT; empty: all
  std::string after;    ///< `next` of the page before
  std::uint32_t limit = kPageLimitDefault;
};

struct ServiceList {
  static constexpr std::string_view kKind = "ServiceList";
  std::uint64_t total = 0;
  std::string next;
  std::vector<ServiceView> items;
  static void fields(auto& self, auto& visit) {
    visit("total", self.total);
    visit("next", self.next);
    visit("items", self.items);
  }
};

struct EndpointList {
  static constexpr std::string_view kKind = "EndpointList";
  std::uint64_t total = 0;
  std::string next;
  std::vector<EndpointView> items;
  static void fields(auto& self, auto& visit) {
    visit("total", self.total);
    visit("next", self.next);
    visit("items", self.items);
  }
};

/// Who would connect. meshctl fills it in from --from (a cgroup or a pid), or from itself.
struct ExplainRequest {
  std::string target;              ///< NAME, NAME:PORT, ADDR:PORT or URL
  std::string cgroup;              ///< path below the cgroup2 mount; empty: unknown
  std::uint64_t cgroup_id = 0;     ///< inode of that folder; 0: unknown
  std::uint64_t netns_cookie = 0;  ///< 0: unknown
  std::optional<std::uint32_t> uid;
  std::string source_address;  ///< the socket is bound to; empty: unbound
};

/// What one service does with the connect.
struct ExplainResult {
  std::string decision;                ///< "balanced", "refused", "untouched", "paused", "exempt", "not_attached"
  std::string why;                     ///< one sentence
  std::string protocol;                ///< "tcp"
  std::optional<ServiceView> service;  ///< null where the destination is no service
  std::string
      choice;  ///< "fixed" (one backend for this client), "rotation", "random", "compared", "" when none is chosen
  std::string client_key;               ///< what was hashed: "namespace cookie 4", for "fixed"
  std::string pick;                     ///< backend address for "fixed"; for "rotation" the one that is next now
  std::vector<EndpointView> endpoints;  ///< with share: the distribution of the next connects
  std::vector<std::string> said;        ///< which registry said so, how fresh that is, and what when it gets old
  static void fields(auto& self, auto& visit) {
    visit("decision", self.decision);
    visit("why", self.why);
    visit("protocol", self.protocol);
    visit("service", self.service);
    visit("choice", self.choice);
    visit("client_key", self.client_key);
    visit("pick", self.pick);
    visit("endpoints", self.endpoints);
    visit("said", self.said);
  }
};

struct ExplainView {
  static constexpr std::string_view kKind = "Explain";
  std::string target;
  std::string from;                    ///< the cgroup that was asked about
  std::optional<bool> from_attached;   ///< whether an attached cgroup covers it; null: unknown
  std::vector<ExplainResult> results;  ///< one per port and protocol that the target stands for
  static void fields(auto& self, auto& visit) {
    visit("target", self.target);
    visit("from", self.from);
    visit("from_attached", self.from_attached);
    visit("results", self.results);
  }
};

}  // namespace mesh::api
