// SPDX-License-Identifier: Apache-2.0
#include "app/watcher.hpp"

#include <algorithm>
#include <utility>

#include "base/duration.hpp"
#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"watcher"};

}  // namespace

Watcher::Watcher(Options options, Reconciler& reconciler, std::vector<Part> parts)
    : options_(options), reconciler_(reconciler), parts_(std::move(parts)), slow_told_(parts_.size()) {}

Watcher::~Watcher() { stop(); }

void Watcher::start() {
  look();
  thread_ = std::thread([this] { run(); });
}

void Watcher::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

base::Duration Watcher::take_longest() {
  const std::lock_guard lock(mutex_);
  return std::exchange(longest_, {});
}

void Watcher::run() {
  std::unique_lock lock(mutex_);
  base::TimePoint next = base::steady_now() + options_.interval;
  while (!wake_.wait_until(lock, next, [this] { return stopping_; })) {
    lock.unlock();
    const base::TimePoint begin = base::steady_now();
    look();
    const base::TimePoint end = base::steady_now();
    next = std::max(next + options_.interval, end);  // a round that took too long delays the next, they don't pile up
    lock.lock();
    longest_ = std::max(longest_, end - begin);
  }
}

void Watcher::look() {
  const Round round{base::steady_now(), base::wall_now(), reconciler_.latest(), board_};
  base::TimePoint begin = round.now;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].work(round);
    const base::TimePoint end = base::steady_now();
    if (end - begin > options_.slow && !slow_told_[i]) {
      slow_told_[i] = true;
      kLog.warn("a look at connections took long",
                {{"part", parts_[i].name}, {"took", base::format_duration(end - begin)}});
    }
    begin = end;
  }
  if (auto changes = board_.take_changes(); !changes.empty()) reconciler_.offer(std::move(changes));
}

}  // namespace mesh::app
