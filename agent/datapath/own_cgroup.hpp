// SPDX-License-Identifier: Apache-2.0
// The agent's own leaf cgroup: what exempts its probes from its own redirect (invariant I8). Membership survives
// restart and pid reuse and can't be claimed by an application, unlike a socket mark.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/error.hpp"

namespace mesh::datapath {

struct OwnCgroup {
  std::string path;      ///< Below the cgroup2 mount: "/system.slice/meshd.service/agent".
  std::uint64_t id = 0;  ///< As bpf_get_current_cgroup_id() says it.
  std::string folder;    ///< The same as a path of the file system.
};

/// The cgroup2 mount point, from /proc/self/mounts ("/sys/fs/cgroup", or "/sys/fs/cgroup/unified" on hybrid hosts).
base::Result<std::string> find_cgroup2_mount();

/// The id of a cgroup folder: its inode number (kernfs, 64-bit hosts).
base::Result<std::uint64_t> cgroup_id(const std::string& folder);

/// Makes the leaf and moves this process into it. `wanted` empty: "<own cgroup>/agent", or "/meshd.agent" for a process
/// in the root cgroup. Call it before any socket is opened: a socket stays in the cgroup it was made in.
base::Result<OwnCgroup> join_own_cgroup(const std::string& cgroup_root, const std::string& wanted);

/// Path below the cgroup2 mount. kNotFound: there is no such process.
base::Result<std::string> cgroup_of(pid_t process);

/// The id of the cgroup that the first of `processes` is in, if no other than these are in it. kInvalid names one.
base::Result<std::uint64_t> cgroup_shared_with_nobody(const std::string& cgroup_root, std::span<const pid_t> processes);

/// Moves this process to the cgroup above and removes the leaf, for a detach that leaves nothing. Best effort.
void leave_own_cgroup(const OwnCgroup& own);

}  // namespace mesh::datapath
