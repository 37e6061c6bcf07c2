// SPDX-License-Identifier: Apache-2.0
// Does anything run where the hooks are? A cgroup with perfect hooks and no process in it balances nothing: the wrong
// name in the configuration, or a service that is not started yet.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mesh::datapath {

/// Whether a process lives in the cgroup at `folder` or below it, leaving out the canary's leaves and `own_folder` (the
/// agent's leaf; empty: none). Stops at the first it finds and skips what the kernel calls unpopulated, so it costs a
/// few file reads also for a host of thousands of processes. Nothing: the cgroup is not there or can't be read.
std::optional<bool> runs_anything(const std::string& folder, std::string_view own_folder);

}  // namespace mesh::datapath
