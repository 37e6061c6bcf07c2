// SPDX-License-Identifier: Apache-2.0
#include "io/loop_base.hpp"

#include <sys/eventfd.h>

#include <cerrno>

namespace mesh::io {

base::Result<base::Fd> make_wake_fd() {
  base::Fd fd(::eventfd(0, EFD_CLOEXEC));
  if (!fd.valid()) return base::fail_errno(errno, "create an eventfd");
  return fd;
}

void LoopBase::post(std::move_only_function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
    has_posted_.store(true, std::memory_order_release);
  }
  if (!first) return;
  const std::uint64_t one = 1;
  while (::write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void LoopBase::finish_step() {
  if (has_posted_.load(std::memory_order_acquire)) {
    std::vector<std::move_only_function<void()>> works;
    {
      const std::lock_guard lock(mutex_);
      works.swap(posted_);
      has_posted_.store(false, std::memory_order_relaxed);
    }
    for (auto& work : works) work();
  }
  timers_.expire(step_);
  const base::Duration took = base::steady_now() - step_;
  auto longest = longest_step_.load(std::memory_order_relaxed);
  while (took.count() > longest && !longest_step_.compare_exchange_weak(longest, took.count())) {
  }
}

}  // namespace mesh::io
