// SPDX-License-Identifier: Apache-2.0
// The newest connections that ended, as the kernel's samples tell of them. One thread adds; any may read.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mesh_abi.h"
#include "mesh_latency.h"

namespace mesh::observe {

std::string_view outcome_name(std::uint8_t outcome);  ///< "timed_out"; "unknown" for what this build does not know
std::optional<std::uint8_t> outcome_from(std::string_view name);
/// Whether something went wrong that neither the application nor an operator did on purpose.
bool is_failure(std::uint8_t outcome);

/// Connect latencies in the buckets of mesh_latency.h.
using LatencyBuckets = std::array<std::uint64_t, MESH_LATENCY_BUCKETS>;

class FlowLog {
 public:
  static constexpr std::size_t kFlowsMax = 16384;     ///< 2.8 MB; the oldest are overwritten.
  static constexpr std::size_t kBackendsMax = 65536;  ///< With latencies of their own; then the idle half is forgotten.

  explicit FlowLog(std::size_t capacity = kFlowsMax, std::size_t backends_max = kBackendsMax)
      : capacity_(capacity), backends_max_(backends_max) {}

  void add(const mesh_event& event);

  struct Flow {
    std::uint64_t id = 0;  ///< From 1, in the order in which they were read.
    mesh_event event{};
  };
  struct Page {
    std::vector<Flow> flows;   ///< In order of id.
    std::uint64_t next = 0;    ///< To ask on with: the last id that was looked at.
    std::uint64_t missed = 0;  ///< Overwritten before they were asked for: between `after` and the oldest.
    std::uint64_t read = 0;    ///< Ever.
  };
  using Match = std::function<bool(const mesh_event&)>;
  /// Flows after `after` that match, at most `limit`, oldest first. `after` 0: the newest `limit` of all.
  [[nodiscard]] Page read(std::uint64_t after, std::size_t limit, const Match& match) const;

  /// Of connections that ended, by backend; sampled, unlike the kernel's histogram of the service.
  [[nodiscard]] LatencyBuckets latencies(std::uint32_t backend_id, std::uint32_t generation) const;

 private:
  struct Latencies {
    std::uint32_t generation = 0;
    std::uint64_t last = 0;  ///< The flow that was counted last.
    LatencyBuckets buckets{};
  };
  [[nodiscard]] const mesh_event& at(std::uint64_t id) const { return ring_[(id - 1) % capacity_]; }
  void forget_idle();

  const std::size_t capacity_;
  const std::size_t backends_max_;
  mutable std::mutex mutex_;
  std::vector<mesh_event> ring_;  // guarded by mutex_, as all below
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint32_t, Latencies> backends_;  ///< By id: one identity has it at a time.
};

}  // namespace mesh::observe
