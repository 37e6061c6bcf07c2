// SPDX-License-Identifier: Apache-2.0
// What a stream of aggregated discovery says, put together: clusters, their endpoints, and what to say back. Pure:
// answers and requests are values, time is passed in.
//
// An answer about clusters is everything: what is not in it is gone. One about endpoints says only of whom it speaks.
// A cluster is a service when its endpoints are known; one that gets its endpoints from elsewhere from now on keeps
// those it has until then. A resource that is wrong is refused (NACK) and keeps its last good state, others of the same
// answer count; an answer that can't be trusted as a whole (garbage, a name twice) changes nothing.
//
// When a stream is lost everything stays. A new one counts when it has said everything; of endpoints that it does not
// name within `timeout` what is known stays.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "discovery/instances.hpp"
#include "discovery/xds_model.hpp"
#include "discovery/xds_subscription.hpp"
#include "model/refusal.hpp"
#include "xds/message.hpp"

namespace mesh::discovery {

class XdsWatch {
 public:
  XdsWatch(XdsSettings settings, ServicePolicy policy, xds::Node node);

  /// A new stream has begun.
  void restart(base::TimePoint now);
  void answered(xds::Answer answer, base::TimePoint now);
  /// Notices what time changes. kTimeout: the stream has not said a thing; it is of no use.
  base::Result<void> look(base::TimePoint now);
  /// What is to be sent now.
  std::vector<xds::Request> take_requests(base::TimePoint now);
  /// When to look() and take_requests() again, if no answer comes before.
  [[nodiscard]] base::TimePoint due() const;

  /// Everything that is wanted was said on this stream.
  [[nodiscard]] bool settled() const { return clusters_said_ && awaited_ == 0; }
  /// All services, if something about them changed since the last call.
  std::optional<std::vector<model::ServicePtr>> take_update();
  /// If it is no more than that: services that stand where others with their frontends and names stood.
  std::vector<model::ServicePtr> take_exchanged();
  /// What people should know, since the last call.
  std::vector<base::Error> take_notes();
  /// What was refused since the last call.
  std::vector<model::Refusal> take_refusals();
  /// Why the last answer about clusters, or about endpoints, was refused, as long as it is.
  [[nodiscard]] const std::optional<base::Error>& refused() const {
    return refused_clusters_ ? refused_clusters_ : refused_endpoints_;
  }

 private:
  struct Cluster {
    const XdsRule* rule = nullptr;
    std::string eds_name;  ///< Empty: its endpoints stand in it.
    bool alone = false;    ///< No other has its name in the mesh.
    InstancesKept kept;
    std::vector<model::ServicePtr> mapped;
    std::vector<std::string> notes;
  };
  using Clusters = std::map<std::string, Cluster, std::less<>>;

  /// Endpoints that some clusters get from this stream.
  struct Endpoints {
    std::set<std::string> clusters;
    std::optional<xds::Assignment> last_good;
    bool asked = false;                    ///< On this stream.
    std::optional<base::TimePoint> until;  ///< Asked, and not yet said.
  };

  /// What is wrong with an answer, for its sender.
  class Complaint;

  void take_clusters(const std::vector<xds::Cluster>& said, Complaint& complaint, base::TimePoint now);
  void take_assignments(std::vector<xds::Assignment> said, Complaint& complaint);
  void map(const std::string& name, Cluster& cluster, const std::vector<Instance>& instances);
  void unmap(Cluster& cluster);
  void find_namesakes();
  void note(const std::string& name, Cluster& cluster, std::vector<std::string> notes);

  const XdsSettings settings_;
  const xds::Node node_;
  InstanceMapper mapper_;
  Clusters clusters_;  ///< Those that rules want.
  std::map<std::string, Endpoints, std::less<>> endpoints_;
  std::size_t awaited_ = 0;  ///< Of endpoints_.
  XdsSubscription cds_{xds::Type::kCluster};
  XdsSubscription eds_{xds::Type::kEndpoints};
  std::optional<base::TimePoint> silent_until_;  ///< Nothing was said on this stream.
  bool clusters_said_ = false;                   ///< On this stream.
  bool node_said_ = false;
  bool changed_ = true;  ///< More than `exchanged_` says.
  std::vector<model::ServicePtr> exchanged_;
  std::vector<base::Error> notes_;
  std::vector<model::Refusal> refusals_;
  std::optional<base::Error> refused_clusters_;
  std::optional<base::Error> refused_endpoints_;
};

}  // namespace mesh::discovery
