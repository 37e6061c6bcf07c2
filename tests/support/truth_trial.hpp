// SPDX-License-Identifier: Apache-2.0
// Re-enacts lies that agents like this one are known to have told: all looks well while applications are not served.
// Each must show within five seconds in the status, its exit code, readiness and a metric, unless the agent has
// repaired it by then. What may be meant, as a mesh that is there before its service, shows without failing anything.
#pragma once

#include <functional>
#include <string>

namespace mesh::test {

inline constexpr int kTruthSeconds = 5;

/// What one witness said about one lie.
struct TruthFinding {
  std::string lie;      ///< "a hook was detached behind the agent's back"
  std::string witness;  ///< "status", "readiness", "metric", "exit code"
  bool shown = false;
  double seconds = 0;  ///< From the act until it showed.
  std::string detail;  ///< What it said.
};

/// Runs all of them, one after the other, each on a lab of its own.
void run_truth_trial(const std::function<void(const TruthFinding&)>& report);

}  // namespace mesh::test
