// SPDX-License-Identifier: Apache-2.0
// Work inside network namespaces that are known by their cookie only, as owner records know them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/error.hpp"
#include "mesh_abi.h"

namespace mesh::datapath {

struct NamespaceQuery {
  /// Cookies of the namespaces to visit, each with processes that may be in it: the quick way to find it.
  std::unordered_map<std::uint64_t, std::vector<pid_t>> wanted;
  bool all = false;  ///< Every namespace that can be found, also those that are not named.
};

/// Whether the record says which namespace and process its socket is of.
[[nodiscard]] bool knows_place(const mesh_owner& record);
/// Where the sockets of these records may be.
NamespaceQuery places_of(std::span<const mesh_owner> records);

/// Calls `visit` once inside each namespace of `query` that can be reached: through the processes named, else through
/// any process below /proc, or a name below /run/netns. Everything runs on a thread of its own, which is gone when this
/// returns: setns(2) moves a thread. Returns the cookies of the namespaces visited. An old kernel (before 5.14) doesn't
/// tell cookies: then all are visited, and counted as wanted.
std::unordered_set<std::uint64_t> visit_namespaces(const NamespaceQuery& query, const std::function<void()>& visit);

/// The cookie of the calling thread's network namespace. Linux 5.14.
base::Result<std::uint64_t> current_netns_cookie();

}  // namespace mesh::datapath
