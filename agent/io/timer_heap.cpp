// SPDX-License-Identifier: Apache-2.0
#include "io/timer_heap.hpp"

#include <algorithm>

namespace mesh::io {

Timer::~Timer() {
  if (armed()) heap_->disarm(*this);
}

TimerHeap::~TimerHeap() {
  for (Timer* timer : timers_) timer->heap_index_ = Timer::kNotArmed;
}

void TimerHeap::arm(Timer& timer, base::TimePoint deadline) {
  if (expiring_) deadline = std::max(deadline, *expiring_ + base::Duration(1));
  if (timer.armed()) {
    MESH_ASSERT(timer.heap_ == this);
    timer.deadline_ = deadline;
  } else {
    timer.heap_ = this;
    timer.deadline_ = deadline;
    timers_.push_back(&timer);
    timer.heap_index_ = timers_.size() - 1;
  }
  sift_up(timer.heap_index_);
  sift_down(timer.heap_index_);
}

void TimerHeap::disarm(Timer& timer) {
  if (!timer.armed()) return;
  MESH_ASSERT(timer.heap_ == this);
  const std::size_t index = timer.heap_index_;
  timer.heap_index_ = Timer::kNotArmed;
  Timer* last = timers_.back();
  timers_.pop_back();
  if (last == &timer) return;
  place(*last, index);
  sift_up(index);
  sift_down(last->heap_index_);
}

std::optional<base::TimePoint> TimerHeap::next() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.front()->deadline_;
}

void TimerHeap::expire(base::TimePoint now) {
  expiring_ = now;
  while (expire_one(now)) {
  }
  expiring_.reset();
}

bool TimerHeap::expire_one(base::TimePoint now) {
  if (timers_.empty() || timers_.front()->deadline_ > now) return false;
  Timer& timer = *timers_.front();
  disarm(timer);
  timer.expire(now);
  return true;
}

void TimerHeap::place(Timer& timer, std::size_t index) {
  timers_[index] = &timer;
  timer.heap_index_ = index;
}

void TimerHeap::sift_up(std::size_t index) {
  Timer& timer = *timers_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (timers_[parent]->deadline_ <= timer.deadline_) break;
    place(*timers_[parent], index);
    index = parent;
  }
  place(timer, index);
}

void TimerHeap::sift_down(std::size_t index) {
  Timer& timer = *timers_[index];
  while (true) {
    std::size_t child = 2 * index + 1;
    if (child >= timers_.size()) break;
    if (child + 1 < timers_.size() && timers_[child + 1]->deadline_ < timers_[child]->deadline_) ++child;
    if (timer.deadline_ <= timers_[child]->deadline_) break;
    place(*timers_[child], index);
    index = child;
  }
  place(timer, index);
}

}  // namespace mesh::io
