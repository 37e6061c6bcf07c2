// SPDX-License-Identifier: Apache-2.0
// From Kubernetes' objects to services: the same view of the same objects as kube-proxy has, for clients on this node.
// Pure.
//
//   Services x EndpointSlices (joined by label and namespace) ─▶ one model::Service per address, port and protocol
//
// Which endpoints get connections is decided as by kube-proxy's CategorizeEndpoints: those that are ready, within what
// topology hints or internalTrafficPolicy leave; if none is ready, those that terminate but still serve. What exists
// and gets none is kept with weight 0, or draining, so that its connections live as long as it does.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "discovery/kubernetes_objects.hpp"
#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery::kubernetes {

/// What is imported, and how.
struct ImportRules {
  std::string source{};             ///< Whose services they are.
  ServicePolicy policy;             ///< Of services without annotations.
  model::Place here;                ///< This node.
  bool headless = false;            ///< Services without an address too: they get one from the agent's range.
  bool external_addresses = false;  ///< externalIPs and addresses of load balancers too.
};

/// The policy of a service: that of the rules with what its annotations say. An annotation is a key of a service in
/// meshd.yaml with - for _, its value as YAML: "meshd.io/probe: {type: http, path: /healthz}". What is wrong is left
/// out and described in `problems`.
ServicePolicy annotated_policy(const ServicePolicy& base, const Annotations& annotations,
                               std::vector<std::string>& problems);

/// "meshd.io/weights: orders-0=5,10.0.0.7=1" of a Service: weight by identity_hash() of a pod's name or an address.
using Weights = std::unordered_map<std::uint64_t, std::uint16_t>;

/// The services that one Service with its slices is; endpoints sorted.
std::vector<model::ServicePtr> import_service(const ServiceObject& service, std::span<const SliceObject* const> slices,
                                              const ImportRules& rules, std::vector<std::string>& problems);

/// What is known of a cluster, and what it comes to. Costs what changes.
class Cluster {
 public:
  explicit Cluster(ImportRules rules) : rules_(std::move(rules)) {}

  void put(ServiceObject service);
  void put(SliceObject slice);
  void remove_service(const std::string& key);
  void remove_slice(const std::string& key);

  /// A list replaces what was known of a namespace (empty: of all): begin, put each object, end, which removes what
  /// wasn't put.
  void begin_services(std::string_view space);
  void end_services(std::string_view space);
  void begin_slices(std::string_view space);
  void end_slices(std::string_view space);

  /// Imports what changed since the last call; whether anything came out differently.
  bool update();
  /// Sorted by frontend; of those that claim the same one, the first by name.
  [[nodiscard]] const std::vector<model::ServicePtr>& services();
  /// If no more than that changed since the last call of this or services(): those that stand where others with their
  /// frontends and names stood.
  std::vector<model::ServicePtr> take_exchanged();
  /// What is wrong with objects since the last call, some of it if it is much.
  std::vector<std::string> take_problems();

  [[nodiscard]] std::size_t service_count() const { return services_.size(); }
  [[nodiscard]] std::size_t slice_count() const { return slices_.size(); }

 private:
  struct Known {
    ServiceObject object;
    std::vector<model::ServicePtr> imported;
  };
  void touch(const std::string& service_key) { dirty_.insert(service_key); }
  bool exchange(const std::vector<model::ServicePtr>& before, const std::vector<model::ServicePtr>& now);

  ImportRules rules_;
  std::unordered_map<std::string, Known> services_;            // by "namespace/name"
  std::unordered_map<std::string, SliceObject> slices_;        // by "namespace/name"
  std::unordered_map<std::string, std::set<std::string>> of_;  // keys of the slices of a service
  std::set<std::string> dirty_;                                // services
  std::set<std::string> gone_services_;                        // of a list: not seen so far
  std::set<std::string> gone_slices_;
  std::vector<model::ServicePtr> all_;  // what services() says, while `sorted_`
  bool sorted_ = false;
  std::vector<model::ServicePtr> exchanged_;
  std::vector<std::string> problems_;
  bool removed_ = false;
};

}  // namespace mesh::discovery::kubernetes
