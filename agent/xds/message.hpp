// SPDX-License-Identifier: Apache-2.0
// What is said over xDS, as plain values: what the agent's own code sees of it. The library (library.hpp) reads and
// writes the messages of Envoy's API v3 that these are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mesh::xds {

enum class Type : std::uint8_t { kListener, kRoute, kCluster, kEndpoints };
inline constexpr std::size_t kTypes = 4;
std::string_view type_url(Type type);  // "type.googleapis.com/envoy.config.cluster.v3.Cluster"
std::optional<Type> type_from(std::string_view url);
std::string_view to_string(Type type);  // "clusters"

/// Who asks.
struct Node {
  std::string id;
  std::string cluster;
  std::string region;
  std::string zone;
  std::string user_agent;
  std::string user_agent_version;
  std::vector<std::pair<std::string, std::string>> metadata;
  bool operator==(const Node&) const = default;
};

/// DiscoveryRequest.
struct Request {
  Type type = Type::kCluster;
  std::string version;               ///< Of the last answer that was accepted; empty: none.
  std::string nonce;                 ///< Of the answer that this is about; empty: of none.
  std::optional<std::string> error;  ///< Why that answer is refused.
  std::vector<std::string> names;    ///< Empty, in the first request of a stream: everything.
  std::optional<Node> node;          ///< In the first request of a stream.
  bool operator==(const Request&) const = default;
};

/// Values of envoy.config.core.v3.HealthStatus.
enum class Health : std::uint8_t { kUnknown, kHealthy, kUnhealthy, kDraining, kTimeout, kDegraded };

struct LbEndpoint {
  std::string address;  ///< Empty: it is no socket address.
  std::uint32_t port = 0;
  Health health = Health::kUnknown;
  std::optional<std::uint32_t> weight;
  bool operator==(const LbEndpoint&) const = default;
};

struct Locality {
  std::string region;
  std::string zone;
  std::optional<std::uint32_t> weight;
  std::uint32_t priority = 0;
  std::vector<LbEndpoint> endpoints;
  bool operator==(const Locality&) const = default;
};

/// ClusterLoadAssignment.
struct Assignment {
  std::string name;
  std::vector<Locality> localities;
  bool operator==(const Assignment&) const = default;
};

struct Cluster {
  enum class Kind : std::uint8_t {
    kAds,     ///< Its endpoints are resources of the same stream.
    kStatic,  ///< Its endpoints stand in it.
    kOther,
  };
  std::string name;
  Kind kind = Kind::kAds;
  std::string kind_name;  ///< For people, of kOther: "STRICT_DNS".
  std::string eds_name;   ///< kAds: what its endpoints are called; empty: as the cluster.
  Assignment assignment;  ///< kStatic
  bool operator==(const Cluster&) const = default;
};

/// DiscoveryResponse, read: the resources are of one of the types, and the other list is empty.
struct Answer {
  std::string type_url;
  std::optional<Type> type;  ///< Nothing: another one.
  std::string version;
  std::string nonce;
  std::vector<Cluster> clusters;
  std::vector<Assignment> assignments;
  std::vector<std::string> problems;  ///< Of resources that can't be read: "resource 3 is not a Cluster".
};

}  // namespace mesh::xds
