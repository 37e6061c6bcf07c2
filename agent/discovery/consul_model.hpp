// SPDX-License-Identifier: Apache-2.0
// Answers of Consul to services of the mesh. Pure.
//
// Instances say more in their service metadata, because Consul allows no other characters in its keys than
// A-Z a-z 0-9 - and _:
//
//   meshd-weight   0 to 65535, instead of Weights.Passing
//   meshd-zone     where it runs; also in the node's metadata
//   meshd-balance  as `balance` in the configuration
//   meshd-probe    none, tcp, http, https, grpc; http:/path, https:/path, grpc:SERVICE
//   meshd-port     port of the frontend
//
// What concerns the whole service is taken from the instance that was changed last.
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

/// `text` against a pattern with * (anything) and ? (one character).
bool matches_pattern(std::string_view pattern, std::string_view text);

/// The first rule that wants this service; null: none. `tags` are those of any instance.
const ConsulRule* find_consul_rule(std::span<const ConsulRule> rules, const ConsulName& service);

/// What a service keeps when its instances no longer say it.
struct ConsulKept {
  std::uint16_t port = 0;  ///< Of its frontend; 0: not known yet.
  bool v4 = false;         ///< Its families.
  bool v6 = false;
  bool operator==(const ConsulKept&) const = default;
};

struct ConsulMapped {
  std::vector<model::Service> services;  ///< One per family.
  std::vector<std::string> notes;        ///< What was left out or ignored, and why; for people.
};

class ConsulMapper {
 public:
  /// `known`: services of the last run. Their frontends keep port and families until instances say otherwise.
  explicit ConsulMapper(ServicePolicy defaults, std::span<const model::ServicePtr> known = {});

  /// Passing and warning instances with their weights; critical ones with weight 0; those in maintenance draining.
  ConsulMapped map(std::string_view name, const ConsulRule& rule, std::span<const ConsulInstance> instances,
                   ConsulKept& kept);

  /// A service as it was in the last run, one per family; for when nothing can be learned about it.
  [[nodiscard]] std::vector<model::Service> last_run(std::string_view name, const ConsulRule& rule) const;
  [[nodiscard]] std::vector<std::string> names_of_last_run() const;

 private:
  void set_probe(std::string_view text, model::Service& service, std::vector<std::string>& notes);

  ServicePolicy defaults_;
  std::map<std::string, std::vector<model::ServicePtr>, std::less<>> known_;              // by name in the mesh
  std::map<std::string, std::shared_ptr<const model::ProbePolicy>, std::less<>> probes_;  // by what is written
};

}  // namespace mesh::discovery
