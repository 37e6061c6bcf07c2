// SPDX-License-Identifier: Apache-2.0
// Finds cgroups by the names people use, and says who a process is to the mesh. Creates nothing.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mesh::cli {

struct Cgroup {
  std::string folder;    ///< "/sys/fs/cgroup/unified/system.slice/shop.service"
  std::string path;      ///< below the mount: "/system.slice/shop.service"; "/" for the root
  std::uint64_t id = 0;  ///< inode of the folder
};

/// Mount point of cgroup2 according to /proc/mounts: never assumed, in the hybrid layout it is not at the top.
base::Result<std::string> find_cgroup_mount(const std::string& mounts_file = "/proc/mounts");

/// `name` is a path below `mount` ("/system.slice/shop.service"), or the name of one folder somewhere below
/// ("shop.service"). `kNotFound` if there is none, `kConflict` if there are several.
base::Result<Cgroup> find_cgroup(const std::string& mount, std::string_view name);

/// The cgroup2 of a process.
base::Result<Cgroup> cgroup_of(const std::string& mount, pid_t pid);

/// SO_NETNS_COOKIE of the network namespace of `pid`, 0: this process's. Another's needs CAP_SYS_ADMIN.
base::Result<std::uint64_t> netns_cookie_of(pid_t pid);

}  // namespace mesh::cli
