// SPDX-License-Identifier: Apache-2.0
// A completion loop: one thread, operations that complete once, timers. Two implementations: io_uring (uring_loop) and
// epoll (epoll_loop, where io_uring is blocked, and under TSan). State machines own their Operations, so starting one
// allocates nothing.
//
// A loop belongs to the thread that calls run(). Before run() another thread may start operations and arm timers (they
// wait for run(), at most `entries` operations); from then on only post() and take_longest_step() are for everybody.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::io {

/// One operation in flight. Its owner keeps it, and the memory it points to, alive and in place until complete() was
/// called, exactly once, from the loop's thread, never from inside the call that started it. When run() returns,
/// whatever is still in flight is abandoned: its memory is no longer touched and complete() will not be called.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  [[nodiscard]] bool in_flight() const { return in_flight_; }

 protected:
  ~Operation() = default;

 private:
  friend class UringLoop;
  friend class EpollLoop;
  friend class FakeLoop;
  /// `result` as the system call returns it: >= 0, or -errno; -ECANCELED after cancel().
  virtual void complete(std::int32_t result) = 0;

  bool in_flight_ = false;
  // For the epoll and the fake implementation, which have to remember what to do when the descriptor is ready.
  int fd_ = -1;
  std::uint8_t code_ = 0;
  void* data_ = nullptr;
  std::size_t size_ = 0;
  Operation* next_ = nullptr;
};

/// An Operation that calls a member function: `MemberOperation<Probe, &Probe::on_connect> connect_{*this};`
template <typename Owner, void (Owner::*Member)(std::int32_t)>
class MemberOperation final : public Operation {
 public:
  explicit MemberOperation(Owner& owner) : owner_(owner) {}

 private:
  void complete(std::int32_t result) override { (owner_.*Member)(result); }
  Owner& owner_;
};

/// Is told when a descriptor becomes ready, edge by edge, until unwatch(): for those who read and write themselves. One
/// that is destroyed must not be watching.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  [[nodiscard]] bool watching() const { return slot_ != kNone; }

 protected:
  ~Watch() = default;

 private:
  friend class WatchTable;
  friend class FakeLoop;
  /// `events`: POLLIN, POLLOUT, POLLRDHUP, POLLERR, POLLHUP, as poll(2) knows them. Soon after watch() the first call
  /// tells how things stand. May watch and unwatch anything, and destroy this object.
  virtual void ready(unsigned events) = 0;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::uint32_t slot_ = kNone;
};

template <typename Owner, void (Owner::*Member)(unsigned)>
class MemberWatch final : public Watch {
 public:
  explicit MemberWatch(Owner& owner) : owner_(owner) {}

 private:
  void ready(unsigned events) override { (owner_.*Member)(events); }
  Owner& owner_;
};

/// A one-shot timer; may be armed again from its own callback. Destroying an armed timer disarms it.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  [[nodiscard]] bool armed() const { return heap_index_ != kNotArmed; }
  [[nodiscard]] base::TimePoint deadline() const { return deadline_; }

 protected:
  ~Timer();

 private:
  friend class TimerHeap;
  virtual void expire(base::TimePoint now) = 0;
  static constexpr std::size_t kNotArmed = ~std::size_t{0};
  class TimerHeap* heap_ = nullptr;
  std::size_t heap_index_ = kNotArmed;
  base::TimePoint deadline_{};
};

template <typename Owner, void (Owner::*Member)(base::TimePoint)>
class MemberTimer final : public Timer {
 public:
  explicit MemberTimer(Owner& owner) : owner_(owner) {}

 private:
  void expire(base::TimePoint now) override { (owner_.*Member)(now); }
  Owner& owner_;
};

class Loop {
 public:
  virtual ~Loop() = default;

  /// Descriptors are non-blocking sockets unless said otherwise. At a time one of {accept, receive}, one of
  /// {connect, send} and one poll per descriptor.
  virtual void accept(int listen_fd, Operation& operation) = 0;  ///< result: a new non-blocking, close-on-exec fd
  /// `address` must stay valid until completion. result: 0 or -errno
  virtual void connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) = 0;
  virtual void receive(int fd, std::span<std::byte> buffer, Operation& operation) = 0;  ///< result: bytes, 0 at end
  virtual void send(int fd, std::span<const std::byte> buffer,
                    Operation& operation) = 0;                        ///< result: bytes; no SIGPIPE
  virtual void poll(int fd, short events, Operation& operation) = 0;  ///< any pollable fd; result: revents
  /// Watches a descriptor that has no operation in flight, nor another watch.
  virtual void watch(int fd, Watch& watch) = 0;
  /// No call of ready() follows, not even for what has happened already. Before the descriptor is closed.
  virtual void unwatch(int fd, Watch& watch) = 0;
  /// Closes when convenient. No operation may be in flight on it.
  virtual void close(int fd) = 0;
  /// Asks for early completion with -ECANCELED. The operation still completes (maybe with its ordinary result).
  virtual void cancel(Operation& operation) = 0;

  virtual void arm(Timer& timer, base::TimePoint deadline) = 0;  ///< Arms or moves.
  virtual void disarm(Timer& timer) = 0;

  /// Runs `work` on the loop's thread soon. The one call that is safe from any thread.
  virtual void post(std::move_only_function<void()> work) = 0;

  virtual void run() = 0;   ///< Until stop(). Once in a loop's life.
  virtual void stop() = 0;  ///< From the loop's thread (or via post).

  [[nodiscard]] virtual base::TimePoint now() const = 0;    ///< Of the current step.
  [[nodiscard]] virtual std::string_view name() const = 0;  ///< "io_uring" or "epoll"
  /// The longest single step (all that one wake-up brought) since the last call; for the metric. From any thread.
  virtual base::Duration take_longest_step() = 0;
};

enum class LoopKind { kAutomatic, kUring, kEpoll };

struct LoopChoice {
  std::unique_ptr<Loop> loop;
  std::string reason;  ///< Why this one: "io_uring: available", "epoll: io_uring_setup: Operation not permitted ..."
};

/// kAutomatic takes io_uring where the kernel offers what uring_loop needs, else epoll. `entries`: submission slots.
base::Result<LoopChoice> make_loop(LoopKind kind, unsigned entries = 256);

}  // namespace mesh::io
