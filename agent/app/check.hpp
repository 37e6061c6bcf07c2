// SPDX-License-Identifier: Apache-2.0
// `meshd check`: can this machine run meshd, and does a connect really get balanced here? Works without an agent. Each
// line is something that was tried or read now; each that is not ok says what to do.
#pragma once

#include "api/control.hpp"
#include "app/config.hpp"

namespace mesh::app {

/// Everything, in the order of a diagnosis: kernel, privileges, mounts, I/O, limits, plaintext, neighbours, self-test.
/// The self-test makes a throw-away cgroup and bpffs folder, loads the programs, balances one connection per family and
/// protocol to itself, and removes all of it. `unread`: why `config` is the defaults and not what a file says.
api::CheckReport check_host(const Config& config, const std::optional<base::Error>& unread);

/// How plaintext to workloads of the mesh stands at `now`, and who probes them with it. Pure.
std::vector<api::CheckItem> check_plaintext(const Config& config, base::WallTime now);

/// Whether any line is a failure.
bool has_failures(const api::CheckReport& report);

}  // namespace mesh::app
