// SPDX-License-Identifier: Apache-2.0
// Signals as loop events: SIGTERM and SIGINT ask to stop, SIGHUP to reload. Blocked in the whole process before any
// thread starts, so that they arrive here and nowhere else.
#pragma once

#include <functional>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "io/loop.hpp"

namespace mesh::app {

class Signals {
 public:
  /// Blocks SIGTERM, SIGINT and SIGHUP, ignores SIGPIPE. Call first in main, before threads.
  static base::Result<Signals> block();

  /// Calls `handler` on the loop's thread for each signal that arrives.
  void watch(io::Loop& loop, std::function<void(int signal)> handler);

  Signals(Signals&& other) noexcept : fd_(std::move(other.fd_)) {}

 private:
  explicit Signals(base::Fd fd) : fd_(std::move(fd)) {}
  void on_readable(std::int32_t result);

  base::Fd fd_;
  io::Loop* loop_ = nullptr;
  std::function<void(int)> handler_;
  io::MemberOperation<Signals, &Signals::on_readable> readable_{*this};
};

}  // namespace mesh::app
