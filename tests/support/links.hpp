// SPDX-License-Identifier: Apache-2.0
// What an operator or another program could do to an agent behind its back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.hpp"

namespace mesh::test {

/// Ids of the BPF links that are attached to exactly this cgroup; with `hook` ("connect4"), only of that attach type.
std::vector<std::uint32_t> links_on(const std::string& cgroup_folder, const std::string& hook = "");

/// Detaches our link of one hook from a cgroup, by its id, as `bpftool link detach` does: the pin stays, the program
/// no longer runs.
void detach_link(const std::string& cgroup_folder, const std::string& hook);

/// A program on a hook of a cgroup that refuses everything (EPERM), after the programs that are there already: what
/// another owner's policy may do. Gone when the object goes.
class DenyAll {
 public:
  DenyAll(const std::string& cgroup_folder, const std::string& hook);

 private:
  base::Fd link_;
};

/// Removes a cgroup with its leaves if no process is in it; false if one is.
bool remove_empty_cgroup(const std::string& folder);

/// Opens `count` TCP connections and keeps them until it is killed; for a child process. Returns only on failure.
int hold_open(const std::string& address, std::uint16_t port, int count);

}  // namespace mesh::test
