// SPDX-License-Identifier: Apache-2.0
// Answers that take longer than a loop step may (every live connection, the journal on disk), one after the other on a
// thread of their own.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "app/admin_backend.hpp"
#include "io/loop.hpp"

namespace mesh::app {

class Jobs {
 public:
  static constexpr std::size_t kWaitingMax = 16;
  using Work = std::move_only_function<base::Result<std::string>()>;  ///< On the thread; the encoded answer.

  explicit Jobs(io::Loop& loop) : loop_(loop) {}
  ~Jobs();  ///< Ends after the job that is under way; those that wait are never answered.

  /// On the loop. kUnavailable at once when kWaitingMax jobs wait.
  void run(Work work, Reply<std::string> reply);

 private:
  struct Job {
    Work work;
    Reply<std::string> reply;
  };
  void serve();

  io::Loop& loop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> waiting_;
  bool stopping_ = false;
  std::thread thread_;  ///< Started by the first job.
};

}  // namespace mesh::app
