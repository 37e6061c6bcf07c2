// SPDX-License-Identifier: Apache-2.0
// Answers of Consul to services of the mesh. Pure.
//
// Instances say more in their service metadata (discovery/instances.hpp), and meshd-zone: where it runs; also in the
// node's metadata. Consul allows no other characters in keys than A-Z a-z 0-9 - and _.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "discovery/consul_keys.hpp"
#include "discovery/instances.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::discovery {

inline constexpr std::size_t kMaxConsulBody = 16u << 20;  ///< 20,000 instances of one service.

/// The worst of an instance's checks and its node's counts.
enum class ConsulStatus : std::uint8_t { kPassing, kWarning, kCritical, kMaintenance };

struct ConsulInstance {
  std::string id;  ///< Unique on its node.
  std::string node;
  std::string address;  ///< IP address or host name.
  std::int64_t port = 0;
  ConsulStatus status = ConsulStatus::kPassing;
  std::uint16_t weight_passing = 1;
  std::uint16_t weight_warning = 1;
  std::vector<std::string> tags;
  std::vector<std::pair<std::string, std::string>> meta;  ///< "meshd-..." of the service only.
  std::string zone;
  std::uint64_t modify_index = 0;

  [[nodiscard]] std::string_view meta_value(std::string_view key) const;  ///< Empty: none.
  bool operator==(const ConsulInstance&) const = default;
};

/// /v1/health/service/NAME: instances that can be endpoints (no sidecars and gateways), by node and id. Error: the body
/// is not what Consul says.
base::Result<std::vector<ConsulInstance>> parse_consul_health(std::string_view body, std::string_view tagged_address);

struct ConsulName {
  std::string name;
  std::vector<std::string> tags;  ///< Of any instance.
};
/// /v1/catalog/services, by name.
base::Result<std::vector<ConsulName>> parse_consul_catalog(std::string_view body);

/// /v1/health/state/any: hashes of the checks that don't pass, per service, and of the checks of a node per node.
struct ConsulFailing {
  std::map<std::string, std::uint64_t, std::less<>> services;
  std::map<std::string, std::uint64_t, std::less<>> nodes;
};
base::Result<ConsulFailing> parse_consul_failing(std::string_view body);

/// The first rule that wants this service; null: none. `tags` are those of any instance.
const ConsulRule* find_consul_rule(std::span<const ConsulRule> rules, const ConsulName& service);

class ConsulMapper {
 public:
  /// `known`: services of the last run. Their frontends keep port and families until instances say otherwise.
  explicit ConsulMapper(ServicePolicy defaults, std::span<const model::ServicePtr> known = {});

  /// Passing and warning instances with their weights; critical ones with weight 0; those in maintenance draining.
  InstancesMapped map(std::string_view name, const ConsulRule& rule, std::span<const ConsulInstance> instances,
                      InstancesKept& kept);

  /// A service as it was in the last run, one per family; for when nothing can be learned about it.
  [[nodiscard]] std::vector<model::Service> last_run(std::string_view name, const ConsulRule& rule) const;
  [[nodiscard]] std::vector<std::string> names_of_last_run() const;

 private:
  InstanceMapper mapper_;
  std::map<std::string, std::vector<model::ServicePtr>, std::less<>> known_;  // by name in the mesh
};

}  // namespace mesh::discovery
