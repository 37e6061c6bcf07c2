// SPDX-License-Identifier: Apache-2.0
// The loop on io_uring, and the only user of liburing.
//
// The ring is a SINGLE_ISSUER ring with DEFER_TASKRUN (Linux 6.1): completions are worked off inside the one system
// call per step that also submits what the step started, so there are no interruptions and no wake-ups of other
// threads. It is created disabled and enabled by run(), because the thread that enables it becomes its only issuer.
#pragma once

#include <liburing.h>

#include "io/loop_base.hpp"
#include "io/watch_table.hpp"

namespace mesh::io {

class UringLoop final : public LoopBase {
 public:
  /// kUnsupported or kPermission when this kernel, its settings or a seccomp filter don't offer what is needed.
  static base::Result<std::unique_ptr<UringLoop>> make(unsigned entries);
  ~UringLoop() override;

  void accept(int listen_fd, Operation& operation) override;
  void connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) override;
  void receive(int fd, std::span<std::byte> buffer, Operation& operation) override;
  void send(int fd, std::span<const std::byte> buffer, Operation& operation) override;
  void poll(int fd, short events, Operation& operation) override;
  void watch(int fd, Watch& watch) override;
  void unwatch(int fd, Watch& watch) override;
  void close(int fd) override;
  void cancel(Operation& operation) override;
  void run() override;
  [[nodiscard]] std::string_view name() const override { return "io_uring"; }

 private:
  UringLoop(base::Fd wake, const io_uring& ring) : LoopBase(std::move(wake)), ring_(ring) {}

  io_uring_sqe* next_sqe();
  void begin(io_uring_sqe* sqe, Operation& operation);
  void listen_for_posts();
  void submit_and_wait();
  void poll_edges(int fd, std::uint64_t number);
  void reap();
  void abandon_all();

  io_uring ring_;
  bool enabled_ = false;
  bool abandoning_ = false;
  std::size_t in_flight_count_ = 0;
  WatchTable watches_;
  std::uint64_t wake_value_ = 0;  ///< Where the eventfd's counter is read to.
};

}  // namespace mesh::io
