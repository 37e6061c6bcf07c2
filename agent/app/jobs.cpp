// SPDX-License-Identifier: Apache-2.0
#include "app/jobs.hpp"

#include <utility>

namespace mesh::app {

Jobs::~Jobs() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Jobs::run(Work work, Reply<std::string> reply) {
  std::unique_lock lock(mutex_);
  if (waiting_.size() >= kWaitingMax) {
    lock.unlock();
    return reply(base::fail(base::ErrorKind::kUnavailable,
                            "answer: " + std::to_string(kWaitingMax) + " long answers are waiting already",
                            "ask again later"));
  }
  waiting_.push_back({std::move(work), std::move(reply)});
  lock.unlock();
  if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  wake_.notify_one();
}

void Jobs::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    auto answer = job.work();
    loop_.post([reply = std::move(job.reply), answer = std::move(answer)]() mutable { reply(std::move(answer)); });
    lock.lock();
  }
}

}  // namespace mesh::app
