// SPDX-License-Identifier: Apache-2.0
// Kills the agent at random moments while changes are being applied and while it starts, starts it again, now and then
// as another build (changed programs, changed table layout), and watches what applications notice: clients connect in
// a tight loop over TCP and UDP, IPv4 and IPv6 all the while. Invariants I1 (the agent may die at any instruction) and
// I3 (an unchanged backend keeps its id).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/client.hpp"

namespace mesh::test {

struct RestartOptions {
  int kills = 50;
  std::uint64_t seed = 1;
  std::vector<std::string> programs;  ///< Builds of meshd that take turns; empty: only this build's.
  std::function<void(int kills_done, const std::string& text)> progress;
};

struct RestartReport {
  struct Row {
    std::string target;
    ConnectLoop::Counts counts;
  };
  int kills_applying = 0;  ///< While changes were on their way.
  int kills_starting = 0;  ///< Between exec and healthy.
  int program_changes = 0;
  std::vector<Row> rows;
  std::vector<std::string> faults;  ///< Id changes, agents that did not come back: what must be empty.
  [[nodiscard]] std::uint64_t attempts() const;
  [[nodiscard]] std::uint64_t failures() const;
};

RestartReport run_restart_trial(const RestartOptions& options);

}  // namespace mesh::test
