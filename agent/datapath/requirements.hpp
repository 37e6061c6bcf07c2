// SPDX-License-Identifier: Apache-2.0
// What the datapath needs of the running kernel, asked of the kernel itself and without an agent: for `meshctl check`
// and for an error before anything was changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mesh::datapath {

enum class Fitness : std::uint8_t {
  kOk,
  kDegraded,  ///< meshd works, with something less; `detail` says what.
  kMissing,   ///< meshd can't work.
};

struct Requirement {
  std::string name;  ///< "kernel", "privileges", "cgroup2", "bpffs", "btf", "hooks", "econnrefused", "explain", "kill",
                     ///< "census", "tracing"
  Fitness fitness = Fitness::kOk;
  std::string detail;  ///< What was found: "Linux 6.18.44".
  std::string remedy;  ///< Empty when there is nothing to do.
};

/// Everything, in a fixed order. `cgroup_root` empty: looked for. Changes nothing on the host (bpffs is not mounted).
std::vector<Requirement> probe_requirements(const std::string& cgroup_root, const std::string& bpffs_directory);

}  // namespace mesh::datapath
