// SPDX-License-Identifier: Apache-2.0
// What clients of the agent's own xDS server can ask for. Immutable; what did not change keeps its pointer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "xds/message.hpp"

namespace mesh::xds {

/// One port of a service.
struct Served {
  std::string name;       ///< "orders:80"
  Assignment assignment;  ///< Under that name.
};
using ServedPtr = std::shared_ptr<const Served>;

struct World {
  std::uint64_t version = 0;
  std::map<std::string, ServedPtr, std::less<>> services;  ///< By name.
  std::string domain;                                      ///< "mesh": names may end with it.

  /// "orders:80", or "orders" where it has one port; each also as "orders.mesh" and "orders.mesh:80". Null: none.
  [[nodiscard]] ServedPtr find(std::string_view name) const;
};
using WorldPtr = std::shared_ptr<const World>;

}  // namespace mesh::xds
