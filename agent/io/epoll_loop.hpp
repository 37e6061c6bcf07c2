// SPDX-License-Identifier: Apache-2.0
// The loop on epoll, with the completion contract of io_uring: an operation is tried at once; if it would block it
// waits for an edge of its descriptor and is tried again. What is done waits in a list until the step that completes
// it.
#pragma once

#include <unordered_map>

#include "io/loop_base.hpp"
#include "io/watch_table.hpp"

namespace mesh::io {

class EpollLoop final : public LoopBase {
 public:
  static base::Result<std::unique_ptr<EpollLoop>> make();
  ~EpollLoop() override = default;

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
  [[nodiscard]] std::string_view name() const override { return "epoll"; }

 private:
  enum Code : std::uint8_t { kAccept, kReceive, kConnect, kSend, kPoll };
  /// Who waits for a descriptor: accept or receive, connect or send, poll.
  struct Waiting {
    Operation* input = nullptr;
    Operation* output = nullptr;
    Operation* poll = nullptr;
  };

  EpollLoop(base::Fd wake, base::Fd epoll) : LoopBase(std::move(wake)), epoll_(std::move(epoll)) {}

  void begin(int fd, Code code, void* data, std::size_t size, Operation& operation);
  void settle(Operation& operation, std::int32_t result);
  void wait_for_edge(Operation& operation);
  static Operation*& place(Waiting& waiting, const Operation& operation);
  void retry(Operation*& place);
  void complete_settled();
  void abandon_all();

  base::Fd epoll_;
  std::unordered_map<int, Waiting> waiting_;
  WatchTable watches_;
  Operation* settled_first_ = nullptr;  ///< Done, to be completed in the next step, oldest first.
  Operation* settled_last_ = nullptr;
};

}  // namespace mesh::io
