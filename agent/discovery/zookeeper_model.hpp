// SPDX-License-Identifier: Apache-2.0
// Nodes of ZooKeeper to services of the mesh. Pure.
//
// Instances say more by labels with the names that Consul's metadata has (consul_model.hpp): meshd-weight, meshd-zone,
// meshd-balance, meshd-probe, meshd-port. They stand in the payload of Curator's instances (in its `metadata` with
// Spring), in the parameters of Dubbo's URLs and in the JSON of the others.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "discovery/instances.hpp"
#include "discovery/service_keys.hpp"
#include "discovery/zookeeper_keys.hpp"

namespace mesh::discovery {

enum class ZookeeperStatus : std::uint8_t {
  kUp,
  kLeaving,  ///< Draining.
  kDown,     ///< Weight 0.
};

struct ZookeeperInstance {
  std::string id;         ///< The name of its node, or what the node says it is.
  std::string address{};  ///< IP address or host name.
  std::int64_t port = 0;
  std::uint16_t weight = 1;
  ZookeeperStatus status = ZookeeperStatus::kUp;
  std::map<std::string, std::string, std::less<>> labels{};
  std::int64_t zxid = 0;  ///< Of its last change; of Dubbo its timestamp. The newest one speaks for the service.
  bool operator==(const ZookeeperInstance&) const = default;
};

/// Whether the node's data is read; of others its name says all.
bool has_data(ZookeeperLayout layout);

/// One node of a service. Nothing: it is none that can be an endpoint, and that is as it should be (a Dubbo node of
/// another category). Error: it is not what the layout says.
base::Result<std::optional<ZookeeperInstance>> parse_zookeeper_node(const ZookeeperRule& rule, std::string_view node,
                                                                    std::string_view data, std::int64_t zxid);

/// Text of a URL with %XX and, in parameters, +. Nothing: half an escape.
std::optional<std::string> decode_url_text(std::string_view text);

class ZookeeperMapper {
 public:
  explicit ZookeeperMapper(ServicePolicy defaults) : mapper_(std::move(defaults)) {}

  InstancesMapped map(std::string_view name, const ZookeeperRule& rule, std::span<const ZookeeperInstance> instances,
                      InstancesKept& kept);

 private:
  InstanceMapper mapper_;
};

}  // namespace mesh::discovery
