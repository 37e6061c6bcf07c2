// SPDX-License-Identifier: Apache-2.0
// What both real loops share: timers, work posted by other threads, the clock of the current step.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "base/fd.hpp"
#include "io/loop.hpp"
#include "io/timer_heap.hpp"

namespace mesh::io {

class LoopBase : public Loop {
 public:
  void arm(Timer& timer, base::TimePoint deadline) final { timers_.arm(timer, deadline); }
  void disarm(Timer& timer) final { timers_.disarm(timer); }
  void post(std::move_only_function<void()> work) final;
  void stop() final { stopped_ = true; }
  [[nodiscard]] base::TimePoint now() const final { return step_ == base::TimePoint{} ? base::steady_now() : step_; }
  base::Duration take_longest_step() final { return base::Duration(longest_step_.exchange(0)); }

 protected:
  explicit LoopBase(base::Fd wake) : wake_(std::move(wake)) {}

  void begin_step() { step_ = base::steady_now(); }
  /// Runs posted work and due timers, then closes the step's account.
  void finish_step();

  base::Fd wake_;  ///< eventfd that post() writes to.
  TimerHeap timers_;
  bool stopped_ = false;

 private:
  base::TimePoint step_{};
  std::atomic<base::Duration::rep> longest_step_ = 0;
  std::mutex mutex_;
  std::vector<std::move_only_function<void()>> posted_;  ///< Guarded by mutex_.
  std::atomic<bool> has_posted_ = false;
};

/// A new eventfd for LoopBase.
base::Result<base::Fd> make_wake_fd();

}  // namespace mesh::io
