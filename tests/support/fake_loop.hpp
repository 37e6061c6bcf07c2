// SPDX-License-Identifier: Apache-2.0
// A Loop without a kernel: the clock moves when the test says so, and a script answers each operation.
#pragma once

#include <optional>
#include <vector>

#include "base/address.hpp"
#include "io/loop.hpp"
#include "io/timer_heap.hpp"

namespace mesh::io {

class FakeLoop final : public Loop {
 public:
  enum class Kind { kAccept, kConnect, kReceive, kSend, kPoll };
  struct Call {
    Kind kind;
    int fd;
    base::TimePoint at;
    base::SocketAddress address{};          ///< Of a connect.
    std::span<std::byte> receive_buffer{};  ///< The script fills it.
    std::span<const std::byte> sent{};
  };
  struct Answer {
    std::int32_t result = 0;
    base::Duration delay{0};
  };
  /// Answers an operation; nothing: it stays in flight until it is cancelled.
  std::function<std::optional<Answer>(const Call&)> script = [](const Call&) { return Answer{}; };

  std::vector<Call> calls;  ///< All that were started, in order.
  std::vector<int> closed;  ///< Descriptors given to close(); really closed too.

  /// Tells whoever watches a descriptor how it stands, until nobody has news: what the kernel's edges come to.
  void tell_watches();
  [[nodiscard]] std::size_t watched() const { return watches_.size(); }

  /// Moves the clock, running on the way what becomes due, in order.
  void advance(base::Duration by);

  void accept(int listen_fd, Operation& operation) override;
  void connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) override;
  void receive(int fd, std::span<std::byte> buffer, Operation& operation) override;
  void send(int fd, std::span<const std::byte> buffer, Operation& operation) override;
  void poll(int fd, short events, Operation& operation) override;
  void watch(int fd, Watch& watch) override;
  void unwatch(int fd, Watch& watch) override;
  void close(int fd) override;
  void cancel(Operation& operation) override;
  void arm(Timer& timer, base::TimePoint deadline) override { timers_.arm(timer, deadline); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }
  void post(std::move_only_function<void()> work) override { posted_.push_back(std::move(work)); }
  void run() override {}
  void stop() override {}
  [[nodiscard]] base::TimePoint now() const override { return now_; }
  [[nodiscard]] std::string_view name() const override { return "fake"; }
  base::Duration take_longest_step() override { return {}; }

 private:
  struct Pending {
    Operation* operation;
    std::int32_t result;
    std::optional<base::TimePoint> due;  ///< Nothing: only a cancel ends it.
  };

  void begin(const Call& call, Operation& operation);
  void settle();

  base::TimePoint now_{std::chrono::hours(1)};
  TimerHeap timers_;
  std::vector<Pending> pending_;
  struct Watched {
    int fd;
    Watch* watch;
  };
  std::vector<Watched> watches_;
  std::vector<std::move_only_function<void()>> posted_;
};

}  // namespace mesh::io
