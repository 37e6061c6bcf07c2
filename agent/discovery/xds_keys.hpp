// SPDX-License-Identifier: Apache-2.0
// What the settings of an xDS source look like in meshd.yaml.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "discovery/rule_keys.hpp"
#include "discovery/tls_keys.hpp"

namespace mesh::discovery {

/// Which clusters become services of the mesh, and as what. The first rule that matches one counts.
struct XdsRule {
  static constexpr std::string_view kOne = "cluster", kMany = "clusters";

  std::string match;       ///< A name, a pattern with * and ?, or "all".
  std::string name;        ///< In the mesh; empty: as xds_name() says.
  std::string address;     ///< IP address of the frontend; empty: by name, from the agent's range.
  std::uint16_t port = 0;  ///< Of the frontend; 0: as xds_name() says, else that of the endpoints.

  [[nodiscard]] bool is_exact() const { return is_exact_match(match); }  ///< `match` is a name.
  bool operator==(const XdsRule&) const = default;
};

struct XdsSettings {
  std::string server = "grpc://127.0.0.1:18000";  ///< grpc://host:port, grpcs://host:port or unix:///path
  std::string token_file;                         ///< Of a bearer; empty: none.
  TlsFiles tls;                                   ///< Of grpcs.
  std::string node_id;                            ///< Empty: that of the agent, else the name of the host.
  std::string node_cluster = "meshd";
  std::vector<std::pair<std::string, std::string>> metadata;  ///< Of the node.
  std::chrono::milliseconds timeout{15'000};                  ///< For the first answer of a stream, and for endpoints.
  std::chrono::milliseconds keepalive{300'000};
  std::vector<XdsRule> services;
  bool operator==(const XdsSettings&) const = default;

  [[nodiscard]] bool is_tls() const { return server.starts_with("grpcs://"); }
  /// As the library wants it: "host:port" or "unix:/path".
  [[nodiscard]] std::string target() const;
};

extern const Table kXdsTable;      // XdsSettings
extern const Table kXdsRuleTable;  // XdsRule

/// What no single key can check.
void finish_xds_settings(Decoder& decoder, const Value& value, XdsSettings& settings);

}  // namespace mesh::discovery
