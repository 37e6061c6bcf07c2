// SPDX-License-Identifier: Apache-2.0
// What clusters and their endpoints are in the mesh. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "discovery/instances.hpp"
#include "discovery/xds_keys.hpp"
#include "xds/message.hpp"

namespace mesh::discovery {

inline constexpr std::uint32_t kMaxXdsPriority = 127;

struct XdsName {
  std::string name;        ///< Empty: it has other characters than a service's name may.
  std::uint16_t port = 0;  ///< 0: the name does not say.
};

/// "Orders" is orders; Istio's "outbound|80||orders.shop.svc.cluster.local" is that host with port 80, and of a subset
/// v1 "orders.shop.svc.cluster.local/v1".
XdsName xds_name(std::string_view cluster);

/// The first rule that wants this cluster; null: none.
const XdsRule* find_xds_rule(const std::vector<XdsRule>& rules, std::string_view cluster);

/// Endpoints of a cluster. Error: what is wrong with the assignment, for its sender; nothing of it counts then.
///
/// Priorities are tiers, in which degraded endpoints come after the others. The weight of an endpoint is the share of
/// its locality times its own share there; where some localities of a priority have a weight, those without get none.
/// UNHEALTHY and TIMEOUT have weight 0, DRAINING drains.
base::Result<std::vector<Instance>> xds_instances(const xds::Assignment& assignment);

}  // namespace mesh::discovery
