// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "io/loop.hpp"

namespace mesh::io {

/// The armed timers of one loop, soonest first: a binary heap of pointers in which each timer knows its place, so that
/// moving and disarming cost O(log n) and allocate nothing.
class TimerHeap {
 public:
  TimerHeap() = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;
  ~TimerHeap();  ///< Disarms what is left.

  void arm(Timer& timer, base::TimePoint deadline);
  void disarm(Timer& timer);
  [[nodiscard]] std::optional<base::TimePoint> next() const;
  /// Runs every timer that is due, soonest first. One that is armed meanwhile for a time already past waits for the
  /// next call, so a timer that keeps arming itself cannot hold the loop.
  void expire(base::TimePoint now);
  /// Runs the soonest timer if it is due; false if none is. For callers with a budget.
  bool expire_one(base::TimePoint now);

 private:
  void place(Timer& timer, std::size_t index);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);

  std::vector<Timer*> timers_;
  std::optional<base::TimePoint> expiring_;
};

}  // namespace mesh::io
