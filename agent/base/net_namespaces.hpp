// SPDX-License-Identifier: Apache-2.0
// Which network namespaces the processes of cgroups are in.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mesh::base {

struct NetNamespace {
  std::uint64_t id = 0;  ///< Tells namespaces apart: the inode of /proc/PID/ns/net.
  pid_t pid = 0;         ///< A process in it.
  std::string path;      ///< Where it can be entered: "/proc/PID/ns/net". Empty: this process's own.
  bool operator==(const NetNamespace&) const = default;
};

/// Whether one's own is among those that are found though nobody is in it.
enum class OwnNamespace : std::uint8_t { kIfUsed, kAlways };

/// The network namespaces of the processes below `cgroup_folders` (whole paths), one's own first; at most `max`.
/// `own_folder`: left out with all below it. Reads /proc, about 10 us per process: not for a loop.
std::vector<NetNamespace> find_net_namespaces(const std::vector<std::string>& cgroup_folders,
                                              const std::string& own_folder, std::size_t max,
                                              OwnNamespace own = OwnNamespace::kIfUsed);

}  // namespace mesh::base
