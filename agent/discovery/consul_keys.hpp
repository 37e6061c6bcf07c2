// SPDX-License-Identifier: Apache-2.0
// What the settings of a Consul source look like in meshd.yaml.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/rule_keys.hpp"
#include "discovery/tls_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// Which server may answer a read.
enum class ConsulConsistency : std::uint8_t {
  kStale,  ///< Any, also one that has lost its leader: as long as max_contact_age says.
  kDefault,
  kConsistent,  ///< The leader, after it asked the others.
};

/// Which services of Consul become services of the mesh, and as what. The first rule that matches a service counts.
struct ConsulRule {
  static constexpr std::string_view kOne = "service", kMany = "services";

  std::string match;                      ///< A name, a pattern with * and ?, or "all".
  std::vector<std::string> tags;          ///< Only instances that have all of them.
  std::vector<std::string> without_tags;  ///< And none of these.
  std::string name;                       ///< In the mesh; empty: as in Consul, in lower case.
  std::string address;                    ///< IP address of the frontend; empty: by name, from the agent's range.
  std::uint16_t port = 0;                 ///< Of the frontend; 0: that of the instances.
  model::Protocol protocol = model::Protocol::kTcp;

  [[nodiscard]] bool is_exact() const { return is_exact_match(match); }  ///< `match` is a name.
  bool operator==(const ConsulRule&) const = default;
};

struct ConsulSettings {
  std::string address = "http://127.0.0.1:8500";  ///< http://, https:// or unix://
  std::string token_file;
  std::string datacenter;  ///< Empty: that of the agent that is asked.
  std::string name_space;  ///< Consul Enterprise; empty: that of the token.
  std::string partition;
  std::string peer;  ///< A peered cluster instead of the own one.
  TlsFiles tls;
  ConsulConsistency consistency = ConsulConsistency::kStale;
  std::chrono::milliseconds max_contact_age{60'000};  ///< Of stale reads.
  std::chrono::seconds wait{60};                      ///< Of a blocking query; the server adds up to a sixteenth.
  std::chrono::milliseconds timeout{10'000};          ///< Longest time without a byte, beyond `wait`.
  std::chrono::milliseconds churn_interval{2'000};    ///< Between reads of something that changes all the time.
  unsigned max_connections = 100;
  std::string tagged_address;  ///< Name of the tagged address to use: "wan"; empty: the plain one.
  std::vector<ConsulRule> services;
  bool operator==(const ConsulSettings&) const = default;
};

extern const Table kConsulTable;      // ConsulSettings
extern const Table kConsulRuleTable;  // ConsulRule

}  // namespace mesh::discovery
