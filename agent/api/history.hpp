// SPDX-License-Identifier: Apache-2.0
// What happened on this node: GET /v1/history, and the lines of the journal on disk.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

/// Values of HistoryEvent::kind; stable.
namespace history {
inline constexpr std::string_view kStarted = "started";
inline constexpr std::string_view kServiceAdded = "service_added";
inline constexpr std::string_view kServiceRemoved = "service_removed";
inline constexpr std::string_view kEndpointAdded = "endpoint_added";
inline constexpr std::string_view kEndpointRemoved = "endpoint_removed";
inline constexpr std::string_view kProbe = "probe";        ///< A verdict changed.
inline constexpr std::string_view kPanic = "panic";        ///< Began or ended.
inline constexpr std::string_view kEjection = "ejection";  ///< Ejected, on probation, back.
inline constexpr std::string_view kDrain = "drain";        ///< Began, sockets reset, over.
inline constexpr std::string_view kPause = "pause";        ///< Began or ended.
inline constexpr std::string_view kPlan = "plan";          ///< The kernel tables were written.
inline constexpr std::string_view kPlanFailed = "plan_failed";
inline constexpr std::string_view kRepaired = "repaired";  ///< What others changed in the kernel was put right.
inline constexpr std::string_view kRefused = "refused";    ///< Connects of applications were refused.
}  // namespace history

struct HistoryEvent {
  std::string time;  ///< RFC 3339 with milliseconds, so that texts sort as times; of the last one when `count` > 1
  std::string kind;
  std::string service;   ///< "orders 240.64.0.10:80/tcp"; empty: the whole node
  std::string endpoint;  ///< "10.0.0.11:8080"; empty: none
  std::string text;      ///< For people: what changed and why.
  std::uint64_t count = 1;
  static void fields(auto& self, auto& visit) {
    visit("time", self.time);
    visit("kind", self.kind);
    visit("service", self.service);
    visit("endpoint", self.endpoint);
    visit("text", self.text);
    visit("count", self.count);
  }
};

inline constexpr std::uint32_t kHistoryLimitDefault = 1000;
inline constexpr std::uint32_t kHistoryLimitMax = 10000;

/// Query of /v1/history.
struct HistoryRequest {
  std::string service;  ///< NAME, NAME:PORT or ADDR:PORT, as it was called then; empty: all
  std::uint64_t since_s = 3600;
  std::uint32_t limit = kHistoryLimitDefault;  ///< the newest that many
};

/// Oldest first.
struct HistoryList {
  static constexpr std::string_view kKind = "HistoryList";
  std::vector<HistoryEvent> items;
  std::uint64_t left_out = 0;       ///< older ones that match, beyond the limit
  std::uint64_t lines_skipped = 0;  ///< cut or damaged
  std::uint64_t lost = 0;           ///< events since the agent's start that were not written
  std::string error;                ///< why the last write failed, while it does
  static void fields(auto& self, auto& visit) {
    visit("items", self.items);
    visit("left_out", self.left_out);
    visit("lines_skipped", self.lines_skipped);
    visit("lost", self.lost);
    visit("error", self.error);
  }
};

}  // namespace mesh::api
