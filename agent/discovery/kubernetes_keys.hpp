// SPDX-License-Identifier: Apache-2.0
// `kubernetes:` of a source in the configuration.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "discovery/keys.hpp"

namespace mesh::discovery {

struct KubernetesSettings {
  std::string api_server;
  std::string kubeconfig;
  std::string context;
  std::string tls_server_name;
  std::vector<std::string> namespaces;
  std::string selector;
  bool all = false;
  bool headless = false;
  bool external_addresses = false;
  std::string node;
  std::string zone;
  std::chrono::seconds check_interval{30};
};

inline constexpr std::size_t kMaxNamespaces = 32;

extern const Table kKubernetesTable;

/// What no single key can check: that something is selected.
void finish_kubernetes(Decoder& decoder, const Value& value, KubernetesSettings& settings);

}  // namespace mesh::discovery
