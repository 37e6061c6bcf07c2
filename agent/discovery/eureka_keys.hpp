// SPDX-License-Identifier: Apache-2.0
// What the settings of a Eureka source look like in meshd.yaml.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/rule_keys.hpp"
#include "discovery/tls_keys.hpp"

namespace mesh::discovery {

/// Which applications of Eureka become services of the mesh, and as what. The first rule that matches one counts.
struct EurekaRule {
  static constexpr std::string_view kOne = "application", kMany = "applications";

  std::string match;       ///< A name, a pattern with * and ?, or "all"; upper and lower case are the same.
  std::string name;        ///< In the mesh; empty: as in Eureka, in lower case.
  std::string address;     ///< IP address of the frontend; empty: by name, from the agent's range.
  std::uint16_t port = 0;  ///< Of the frontend; 0: that of the instances.
  bool secure = false;     ///< Connect to securePort instead of port.

  [[nodiscard]] bool is_exact() const { return is_exact_match(match); }  ///< `match` is a name.
  bool operator==(const EurekaRule&) const = default;
};

struct EurekaSettings {
  std::vector<std::string> servers{"http://127.0.0.1:8761/eureka"};
  std::string credentials_file;  ///< "user:password"; empty: none.
  TlsFiles tls;
  std::chrono::milliseconds interval{30'000};
  unsigned full_every = 10;                  ///< Deltas; 0: everything is read each time.
  std::chrono::milliseconds timeout{8'000};  ///< Longest time without a byte of an answer.
  bool default_probe = true;
  std::vector<EurekaRule> services;
  bool operator==(const EurekaSettings&) const = default;
};

extern const Table kEurekaTable;      // EurekaSettings
extern const Table kEurekaRuleTable;  // EurekaRule

/// What no single key can check.
void finish_eureka_settings(Decoder& decoder, const Value& value, EurekaSettings& settings);

}  // namespace mesh::discovery
