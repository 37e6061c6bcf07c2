// SPDX-License-Identifier: Apache-2.0
// What the prober counts. The cells are written by the prober's thread only and read by anybody.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "model/health_view.hpp"
#include "model/service.hpp"

namespace mesh::health {

inline constexpr std::size_t kProbeTypes = 4;  ///< model::ProbeType
inline constexpr std::size_t kProbeReasons = static_cast<std::size_t>(model::ProbeReason::kLocal) + 1;
/// Upper bounds of the duration buckets; the last bucket has none.
inline constexpr std::array<base::Duration, 12> kDurationBounds = {
    std::chrono::microseconds(500), std::chrono::milliseconds(1),   std::chrono::microseconds(2500),
    std::chrono::milliseconds(5),   std::chrono::milliseconds(10),  std::chrono::milliseconds(25),
    std::chrono::milliseconds(50),  std::chrono::milliseconds(100), std::chrono::milliseconds(250),
    std::chrono::milliseconds(500), std::chrono::seconds(1),        std::chrono::milliseconds(2500)};

struct ProbeStats {
  struct PerType {
    std::array<std::uint64_t, kProbeReasons> results{};                 ///< By model::ProbeReason; [kOk] succeeded.
    std::array<std::uint64_t, kDurationBounds.size() + 1> durations{};  ///< Not cumulative.
    base::Duration duration_sum{};
  };
  std::array<PerType, kProbeTypes> types;  ///< By model::ProbeType.
  std::uint64_t targets = 0;               ///< Endpoints under probe; equal probes count once.
  std::uint64_t in_flight = 0;
  std::uint64_t kept_connections = 0;
  std::uint64_t rate_limited = 0;  ///< Probes that had to wait for max_probes_per_second or for a free slot.
  std::uint64_t late = 0;          ///< Probes that began more than 100 ms after they were due.
  base::Duration lateness_max{};   ///< Worst since the last call.
  std::uint64_t transitions = 0;   ///< Changed verdicts.
  base::Duration longest_step{};   ///< Of the prober's loop since the last call.
  std::string loop;                ///< "io_uring"
  std::string loop_reason;         ///< Why that one.
};

/// The live counters behind ProbeStats.
struct ProbeCells {
  using Cell = std::atomic<std::uint64_t>;
  struct PerType {
    std::array<Cell, kProbeReasons> results{};
    std::array<Cell, kDurationBounds.size() + 1> durations{};
    Cell duration_sum_ns{};
  };
  std::array<PerType, kProbeTypes> types;
  Cell targets{}, in_flight{}, kept_connections{}, rate_limited{}, late{}, lateness_max_ns{}, transitions{};

  void count(model::ProbeType type, model::ProbeReason reason, base::Duration took);
  /// Copies all, and starts lateness_max anew.
  void read(ProbeStats& stats);
};

}  // namespace mesh::health
