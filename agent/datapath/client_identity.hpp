// SPDX-License-Identifier: Apache-2.0
// Who a connecting application is, as the hooks see it: the values behind every hash key. For `meshctl explain --from`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mesh::datapath {

struct ClientIdentity {
  pid_t pid = 0;       ///< The process it was read from; 0 if the cgroup has none.
  std::string cgroup;  ///< Below the cgroup2 mount, "/" for the root.
  std::uint64_t cgroup_id = 0;
  std::uint64_t netns_cookie = 0;
  std::uint32_t uid = 0;
};

/// `from` is a process id, a cgroup path below the cgroup2 mount ("/system.slice/shop.service") or its last component
/// ("shop.service") when that is unique. Empty: this process itself, in the root cgroup. For a cgroup, namespace and
/// user are those of its first process, or of this process where it has none. Needs the host's /proc (hostPID in a
/// pod). kNotFound if there is no such process or cgroup, kInvalid if a short name fits several cgroups.
base::Result<ClientIdentity> identify_client(const std::string& cgroup_root, std::string_view from);

/// Whether `cgroup` is `ancestor` or below it; both as paths below the mount.
bool is_within(std::string_view cgroup, std::string_view ancestor);

}  // namespace mesh::datapath
