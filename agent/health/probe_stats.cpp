// SPDX-License-Identifier: Apache-2.0
#include "health/probe_stats.hpp"

#include <algorithm>

namespace mesh::health {

void ProbeCells::count(model::ProbeType type, model::ProbeReason reason, base::Duration took) {
  PerType& cells = types[static_cast<std::size_t>(type)];
  cells.results[static_cast<std::size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  const auto bucket = std::ranges::lower_bound(kDurationBounds, took) - kDurationBounds.begin();
  cells.durations[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  cells.duration_sum_ns.fetch_add(static_cast<std::uint64_t>(took.count()), std::memory_order_relaxed);
}

void ProbeCells::read(ProbeStats& stats) {
  for (std::size_t type = 0; type < kProbeTypes; ++type) {
    for (std::size_t i = 0; i < kProbeReasons; ++i) stats.types[type].results[i] = types[type].results[i];
    for (std::size_t i = 0; i <= kDurationBounds.size(); ++i) stats.types[type].durations[i] = types[type].durations[i];
    stats.types[type].duration_sum = base::Duration(types[type].duration_sum_ns);
  }
  stats.targets = targets;
  stats.in_flight = in_flight;
  stats.kept_connections = kept_connections;
  stats.rate_limited = rate_limited;
  stats.late = late;
  stats.lateness_max = base::Duration(lateness_max_ns.exchange(0));
  stats.transitions = transitions;
}

}  // namespace mesh::health
