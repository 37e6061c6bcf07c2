// SPDX-License-Identifier: Apache-2.0
// What changes the agent (pause, reload, detach, log level), and what works without one (check, config, estimate).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"
#include "api/common.hpp"

namespace mesh::api {

inline constexpr std::uint64_t kPauseMaxSeconds = 7 * 24 * 3600;

/// POST /v1/pause: connects pass untouched until the time is over, agent alive or dead.
struct PauseRequest {
  static constexpr std::string_view kKind = "PauseRequest";
  std::string service;        ///< NAME, NAME:PORT or ADDR:PORT
  bool all = false;           ///< the whole mesh; either this or `service`
  std::uint64_t seconds = 0;  ///< 1 to kPauseMaxSeconds
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("all", self.all);
    visit("seconds", self.seconds);
  }
};

/// POST /v1/resume
struct ResumeRequest {
  static constexpr std::string_view kKind = "ResumeRequest";
  std::string service;  ///< as in PauseRequest, and `all`
  bool all = false;
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("all", self.all);
  }
};

/// POST /v1/reload and /v1/detach: they take nothing.
struct EmptyRequest {
  static constexpr std::string_view kKind = "EmptyRequest";
  static void fields(auto&, auto&) {}
};

struct PauseItem {
  std::string target;  ///< "mesh", or "orders 240.64.0.10:80/tcp"
  std::string until;   ///< a time; empty: not paused (any more)
  static void fields(auto& self, auto& visit) {
    visit("target", self.target);
    visit("until", self.until);
  }
};

struct PauseView {
  static constexpr std::string_view kKind = "Pause";
  std::vector<PauseItem> items;
  static void fields(auto& self, auto& visit) { visit("items", self.items); }
};

/// POST /v1/reload. Refused configuration is not an error of the call: `ok` is false and `errors` says why.
struct ReloadView {
  static constexpr std::string_view kKind = "Reload";
  bool ok = false;
  std::vector<DiagnosticView> errors;
  std::vector<std::string> needs_restart;
  std::uint64_t services = 0;
  std::uint64_t endpoints = 0;
  static void fields(auto& self, auto& visit) {
    visit("ok", self.ok);
    visit("errors", self.errors);
    visit("needs_restart", self.needs_restart);
    visit("services", self.services);
    visit("endpoints", self.endpoints);
  }
};

/// POST /v1/detach, `meshd detach --json`.
struct DetachView {
  static constexpr std::string_view kKind = "Detach";
  std::vector<std::string> removed;  ///< links and pins
  std::vector<std::string> kept;     ///< not ours, or could not be removed, with the reason
  static void fields(auto& self, auto& visit) {
    visit("removed", self.removed);
    visit("kept", self.kept);
  }
};

/// GET and POST /v1/log
struct LogView {
  static constexpr std::string_view kKind = "Log";
  std::string level;  ///< "debug", "info", "warn", "error"
  static void fields(auto& self, auto& visit) { visit("level", self.level); }
};

/// GET /v1/config: what is in force.
struct ConfigView {
  static constexpr std::string_view kKind = "Config";
  std::string path;
  std::vector<std::string> files;  ///< that were read
  Json effective;                  ///< the whole configuration with defaults filled in, secrets left out
  static void fields(auto& self, auto& visit) {
    visit("path", self.path);
    visit("files", self.files);
    visit("effective", self.effective);
  }
};

/// `meshd --check-config FILE --json`: the file, its conf.d, and the files that they watch.
struct ValidateView {
  static constexpr std::string_view kKind = "Validate";
  bool ok = false;
  std::string path;
  std::vector<DiagnosticView> errors;    ///< Those of watched files last.
  std::vector<DiagnosticView> warnings;  ///< A watched file that is not there, an address that is claimed twice.
  std::uint64_t services = 0;            ///< One per address, port and protocol, as in Status; watched ones too.
  std::uint64_t endpoints = 0;
  std::uint64_t watched_files = 0;   ///< That could be read.
  std::uint64_t watched_errors = 0;  ///< Of `errors`.
  static void fields(auto& self, auto& visit) {
    visit("ok", self.ok);
    visit("path", self.path);
    visit("errors", self.errors);
    visit("warnings", self.warnings);
    visit("services", self.services);
    visit("endpoints", self.endpoints);
    visit("watched_files", self.watched_files);
    visit("watched_errors", self.watched_errors);
  }
};

/// As meshd and meshctl both print it: the findings, then one line that sums up.
std::vector<std::string> lines_of(const ValidateView& view);
/// "FILE:LINE:COLUMN: KEY: MESSAGE; SUGGESTION"
std::string to_text(const DiagnosticView& finding);

/// `meshd check --json`: requirements, one line each.
struct CheckItem {
  std::string group;  ///< "kernel", "cgroup", "bpf", "io", "limits", "neighbours", "self-test"
  std::string name;
  std::string state;  ///< "ok", "warn", "fail", "skip"
  std::string detail;
  std::string remedy;  ///< for warn and fail
  static void fields(auto& self, auto& visit) {
    visit("group", self.group);
    visit("name", self.name);
    visit("state", self.state);
    visit("detail", self.detail);
    visit("remedy", self.remedy);
  }
};

struct CheckReport {
  static constexpr std::string_view kKind = "Check";
  std::vector<CheckItem> items;
  static void fields(auto& self, auto& visit) { visit("items", self.items); }
};

/// `meshd estimate --services N --endpoints M --json`: what a scale costs.
struct EstimateTable {
  std::string table;
  std::string setting;                  ///< "agent.limits.slots"
  std::optional<std::uint64_t> needed;  ///< elements; null: services and endpoints don't decide it
  std::uint64_t size = 0;               ///< elements that the map would have
  std::uint64_t bytes = 0;
  static void fields(auto& self, auto& visit) {
    visit("table", self.table);
    visit("setting", self.setting);
    visit("needed", self.needed);
    visit("size", self.size);
    visit("bytes", self.bytes);
  }
};

struct EstimateView {
  static constexpr std::string_view kKind = "Estimate";
  std::uint64_t services = 0;
  std::uint64_t endpoints = 0;  ///< per service
  std::string balance;
  std::vector<EstimateTable> tables;
  std::string note;  ///< what the numbers assume; may be empty
  std::uint64_t kernel_bytes = 0;
  std::uint64_t agent_bytes = 0;
  static void fields(auto& self, auto& visit) {
    visit("services", self.services);
    visit("endpoints", self.endpoints);
    visit("balance", self.balance);
    visit("tables", self.tables);
    visit("note", self.note);
    visit("kernel_bytes", self.kernel_bytes);
    visit("agent_bytes", self.agent_bytes);
  }
};

}  // namespace mesh::api
