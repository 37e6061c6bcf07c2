// SPDX-License-Identifier: Apache-2.0
#include "io/timer_heap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "base/random.hpp"

namespace mesh::io {
namespace {

using base::TimePoint;

TimePoint at(std::int64_t nanoseconds) { return TimePoint(base::Duration(nanoseconds)); }

struct Recorder {
  explicit Recorder(std::vector<TimePoint>& expired) : log(expired) {}
  void on_timer(TimePoint) { log.push_back(timer.deadline()); }
  std::vector<TimePoint>& log;
  MemberTimer<Recorder, &Recorder::on_timer> timer{*this};
};

TEST(TimerHeap, expires_in_order_whatever_was_armed_moved_and_disarmed) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    base::Random random(seed);
    TimerHeap heap;
    std::vector<TimePoint> log;
    std::vector<std::unique_ptr<Recorder>> recorders;
    for (int i = 0; i < 60; ++i) recorders.push_back(std::make_unique<Recorder>(log));
    for (int i = 0; i < 400; ++i) {
      Recorder& recorder = *recorders[random.below(recorders.size())];
      if (random.below(4) == 0) {
        heap.disarm(recorder.timer);
      } else {
        heap.arm(recorder.timer, at(static_cast<std::int64_t>(random.below(1000))));
      }
    }
    for (int i = 0; i < 10; ++i) recorders.erase(recorders.begin() + static_cast<int>(random.below(recorders.size())));
    std::vector<TimePoint> expected;
    for (const auto& recorder : recorders) {
      if (recorder->timer.armed()) expected.push_back(recorder->timer.deadline());
    }
    std::sort(expected.begin(), expected.end());
    if (!expected.empty()) EXPECT_EQ(heap.next(), expected.front());
    heap.expire(at(499));
    EXPECT_TRUE(std::all_of(log.begin(), log.end(), [](TimePoint t) { return t <= at(499); }));
    heap.expire(at(1000));
    EXPECT_EQ(log, expected);
    EXPECT_EQ(heap.next(), std::nullopt);
  }
}

TEST(TimerHeap, a_timer_that_keeps_arming_itself_in_the_past_runs_once_per_call) {
  struct Eager {
    explicit Eager(TimerHeap& owner) : heap(owner) {}
    void on_timer(TimePoint) {
      ++runs;
      heap.arm(timer, at(0));
    }
    TimerHeap& heap;
    int runs = 0;
    MemberTimer<Eager, &Eager::on_timer> timer{*this};
  };
  TimerHeap heap;
  Eager eager(heap);
  heap.arm(eager.timer, at(5));
  heap.expire(at(10));
  EXPECT_EQ(eager.runs, 1);
  heap.expire(at(20));
  EXPECT_EQ(eager.runs, 2);
}

}  // namespace
}  // namespace mesh::io
