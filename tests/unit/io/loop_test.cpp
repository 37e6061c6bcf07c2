// SPDX-License-Identifier: Apache-2.0
// The contract of agent/io/loop.hpp, held by both loops.
#include "io/loop.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "base/fd.hpp"

namespace mesh::io {
namespace {

using namespace std::chrono_literals;

/// One operation whose result is kept, and what to do then.
struct Recorded {
  void on_complete(std::int32_t value) {
    ++completions;
    result = value;
    if (then) then();
  }
  MemberOperation<Recorded, &Recorded::on_complete> operation{*this};
  int completions = 0;
  std::int32_t result = -1000;
  std::function<void()> then;
};

struct Alarm {
  void on_timer(base::TimePoint now) {
    fired_at = now;
    if (then) then();
  }
  MemberTimer<Alarm, &Alarm::on_timer> timer{*this};
  std::optional<base::TimePoint> fired_at;
  std::function<void()> then;
};

class LoopContract : public testing::TestWithParam<LoopKind> {
 protected:
  void SetUp() override {
    auto choice = make_loop(GetParam(), 16);
    if (!choice) GTEST_SKIP() << "SKIPPED: " << choice.error().to_string();
    loop_ = std::move(choice->loop);
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    near_ = base::Fd(ends[0]);
    far_ = base::Fd(ends[1]);
  }

  std::span<std::byte> buffer() { return buffer_; }
  void stop_after(Recorded& recorded) {
    recorded.then = [this] { loop_->stop(); };
  }

  std::unique_ptr<Loop> loop_;
  base::Fd near_, far_;
  std::array<std::byte, 4096> buffer_{};
};

TEST_P(LoopContract, a_receive_waits_for_bytes_and_completes_once) {
  Recorded receive;
  Recorded send;
  stop_after(receive);
  loop_->receive(near_.get(), buffer(), receive.operation);
  EXPECT_TRUE(receive.operation.in_flight());
  EXPECT_EQ(receive.completions, 0);
  const std::string_view text = "hello";
  loop_->send(far_.get(), std::as_bytes(std::span(text)), send.operation);
  EXPECT_EQ(send.completions, 0) << "completed inside the call that started it";
  loop_->run();
  EXPECT_EQ(send.result, 5);
  EXPECT_EQ(receive.result, 5);
  EXPECT_EQ(receive.completions, 1);
  EXPECT_FALSE(receive.operation.in_flight());
  EXPECT_EQ(std::memcmp(buffer_.data(), "hello", 5), 0);
}

TEST_P(LoopContract, a_closed_peer_is_zero_for_receive_and_epipe_without_signal_for_send) {
  far_.reset();
  Recorded receive;
  Recorded send;
  receive.then = [&] { loop_->send(near_.get(), buffer(), send.operation); };
  stop_after(send);
  loop_->receive(near_.get(), buffer(), receive.operation);
  loop_->run();
  EXPECT_EQ(receive.result, 0);
  EXPECT_EQ(send.result, -EPIPE);
}

TEST_P(LoopContract, a_send_into_a_full_socket_waits_until_there_is_room) {
  while (::write(near_.get(), buffer_.data(), buffer_.size()) > 0) {
  }
  Recorded send;
  Alarm drain;
  bool early = false;
  drain.then = [&] {
    early = send.completions > 0;
    while (::read(far_.get(), buffer_.data(), buffer_.size()) > 0) {
    }
  };
  stop_after(send);
  loop_->send(near_.get(), buffer(), send.operation);
  loop_->arm(drain.timer, loop_->now() + 5ms);
  loop_->run();
  EXPECT_FALSE(early);
  EXPECT_GT(send.result, 0);
}

TEST_P(LoopContract, cancel_completes_with_ecanceled_and_the_descriptor_can_be_used_again) {
  Recorded receive;
  Recorded again;
  Alarm alarm;
  alarm.then = [&] { loop_->cancel(receive.operation); };
  receive.then = [&] {
    EXPECT_EQ(::write(far_.get(), "x", 1), 1);
    loop_->receive(near_.get(), buffer(), again.operation);
  };
  stop_after(again);
  loop_->receive(near_.get(), buffer(), receive.operation);
  loop_->arm(alarm.timer, loop_->now() + 1ms);
  loop_->run();
  EXPECT_EQ(receive.result, -ECANCELED);
  EXPECT_EQ(receive.completions, 1);
  EXPECT_EQ(again.result, 1);
}

TEST_P(LoopContract, cancel_in_the_step_that_started_it_still_completes_once) {
  Recorded receive;
  stop_after(receive);
  loop_->receive(near_.get(), buffer(), receive.operation);
  loop_->cancel(receive.operation);
  loop_->run();
  EXPECT_EQ(receive.completions, 1);
  EXPECT_EQ(receive.result, -ECANCELED);
}

TEST_P(LoopContract, accept_and_connect_meet_and_a_missing_listener_refuses) {
  const base::Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t length = sizeof(sa_family_t);  // autobind: an abstract name of the kernel's choice
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  length = sizeof(address);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  sockaddr_un nobody{};
  nobody.sun_family = AF_UNIX;
  const socklen_t nobody_length = sizeof(sa_family_t) + 20;
  std::snprintf(nobody.sun_path + 1, 19, "mesh-nobody-%d", ::getpid());

  const base::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const base::Fd lost(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  Recorded accept;
  Recorded connect;
  Recorded refused;
  Alarm patience;
  patience.then = [&] { loop_->stop(); };
  loop_->accept(listener.get(), accept.operation);
  connect.then = [&] {
    loop_->connect(lost.get(), reinterpret_cast<sockaddr*>(&nobody), nobody_length, refused.operation);
  };
  stop_after(refused);
  Alarm later;  // the accept has to wait first
  later.then = [&] { loop_->connect(client.get(), reinterpret_cast<sockaddr*>(&address), length, connect.operation); };
  loop_->arm(later.timer, loop_->now() + 2ms);
  loop_->run();
  EXPECT_EQ(connect.result, 0);
  EXPECT_EQ(refused.result, -ECONNREFUSED);
  ASSERT_GE(accept.result, 0);
  EXPECT_EQ(::fcntl(accept.result, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(::fcntl(accept.result, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  ::close(accept.result);
}

TEST_P(LoopContract, poll_works_on_a_pipe_and_says_what_happened) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
  const base::Fd out(ends[0]);
  base::Fd in(ends[1]);
  Recorded readable;
  Recorded hung_up;
  readable.then = [&] {
    char byte = 0;
    EXPECT_EQ(::read(out.get(), &byte, 1), 1);
    loop_->poll(out.get(), POLLIN, hung_up.operation);
    in.reset();
  };
  stop_after(hung_up);
  Alarm later;
  later.then = [&] { EXPECT_EQ(::write(in.get(), "x", 1), 1); };
  loop_->poll(out.get(), POLLIN, readable.operation);
  loop_->arm(later.timer, loop_->now() + 1ms);
  loop_->run();
  EXPECT_EQ(readable.result & POLLIN, POLLIN);
  EXPECT_EQ(hung_up.result & POLLHUP, POLLHUP);
}

TEST_P(LoopContract, many_operations_need_more_than_the_submission_slots) {
  constexpr int kPairs = 100;  // 16 slots
  std::array<Recorded, kPairs> receives;
  std::array<Recorded, kPairs> sends;
  std::array<base::Fd, 2 * kPairs> fds;
  std::array<std::byte, kPairs> bytes{};
  int done = 0;
  Alarm start;
  start.then = [&] {
    for (std::size_t i = 0; i < kPairs; ++i) {
      int ends[2];
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
      fds[2 * i] = base::Fd(ends[0]);
      fds[2 * i + 1] = base::Fd(ends[1]);
      receives[i].then = [&] {
        if (++done == kPairs) loop_->stop();
      };
      loop_->receive(ends[0], std::span(bytes).subspan(i, 1), receives[i].operation);
      loop_->send(ends[1], std::span(bytes).subspan(i, 1), sends[i].operation);
    }
  };
  loop_->arm(start.timer, loop_->now());
  loop_->run();
  EXPECT_EQ(done, kPairs);
  for (const auto& receive : receives) EXPECT_EQ(receive.result, 1);
}

TEST_P(LoopContract, post_wakes_the_loop_from_other_threads_in_order) {
  std::vector<int> order;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) loop_->post([&order, i] { order.push_back(i); });
    loop_->post([this] { loop_->stop(); });
  });
  loop_->run();
  other.join();
  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(LoopContract, a_timer_never_fires_early) {
  Alarm alarm;
  alarm.then = [this] { loop_->stop(); };
  const auto deadline = base::steady_now() + 3ms;
  loop_->arm(alarm.timer, deadline);
  loop_->run();
  ASSERT_TRUE(alarm.fired_at);
  EXPECT_GE(*alarm.fired_at, deadline);
  EXPECT_GE(base::steady_now(), deadline);
}

TEST_P(LoopContract, close_hands_the_end_to_the_peer) {
  Recorded receive;
  stop_after(receive);
  loop_->receive(far_.get(), buffer(), receive.operation);
  loop_->close(near_.release());
  loop_->run();
  EXPECT_EQ(receive.result, 0);
}

TEST_P(LoopContract, what_is_in_flight_when_run_returns_is_abandoned) {
  Recorded receive;
  loop_->receive(near_.get(), buffer(), receive.operation);
  loop_->post([this] { loop_->stop(); });
  loop_->run();
  EXPECT_EQ(receive.completions, 0);
  EXPECT_FALSE(receive.operation.in_flight());
  EXPECT_EQ(::write(far_.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(near_.get(), &byte, 1), 1) << "the abandoned receive took the byte";
}

TEST_P(LoopContract, the_longest_step_is_reported_once) {
  Alarm alarm;
  alarm.then = [this] {
    const auto until = base::steady_now() + 2ms;
    while (base::steady_now() < until) {
    }
    loop_->stop();
  };
  loop_->arm(alarm.timer, loop_->now());
  loop_->run();
  EXPECT_GE(loop_->take_longest_step(), 2ms);
  EXPECT_EQ(loop_->take_longest_step(), 0ms);
}

/// A watch that keeps what it was told.
struct Seen {
  void on_ready(unsigned value) {
    events |= value;
    ++times;
    if (then) then();
  }
  MemberWatch<Seen, &Seen::on_ready> watch{*this};
  unsigned events = 0;
  int times = 0;
  std::function<void()> then;
};

TEST_P(LoopContract, a_watch_is_told_of_every_edge_until_it_is_taken_back) {
  Seen seen;
  loop_->watch(near_.get(), seen.watch);
  unsigned at_first = 0;
  int reads = 0;
  seen.then = [&] {
    if (at_first == 0) {
      at_first = std::exchange(seen.events, 0);
      EXPECT_EQ(::write(far_.get(), "x", 1), 1);
    }
    char byte = 0;
    if ((seen.events & POLLIN) == 0 || ::read(near_.get(), &byte, 1) != 1) return;
    seen.events = 0;
    if (++reads < 3) {
      EXPECT_EQ(::write(far_.get(), "x", 1), 1);
      return;
    }
    loop_->unwatch(near_.get(), seen.watch);
    EXPECT_FALSE(seen.watch.watching());
    EXPECT_EQ(::write(far_.get(), "x", 1), 1);
    seen.times = 0;
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
  };
  loop_->run();
  EXPECT_NE(at_first & POLLOUT, 0U);
  EXPECT_EQ(reads, 3);
  EXPECT_EQ(seen.times, 0) << "told after it was taken back";
}

TEST_P(LoopContract, an_event_of_a_watch_that_was_taken_back_is_not_told_to_its_successor) {
  Seen first;
  Seen second;
  Seen third;
  loop_->watch(near_.get(), first.watch);
  loop_->watch(far_.get(), second.watch);
  // Both are told in one step that they can write; the one that hears it first takes the other away.
  bool taken = false;
  const auto take_over = [&](int other_fd, Seen& other) {
    if (std::exchange(taken, true)) return;
    loop_->unwatch(other_fd, other.watch);
    other.times = -1000;
    loop_->watch(other_fd, third.watch);
  };
  first.then = [&] { take_over(far_.get(), second); };
  second.then = [&] { take_over(near_.get(), first); };
  third.then = [this] { loop_->stop(); };
  loop_->run();
  EXPECT_TRUE(first.times == -1000 || second.times == -1000) << "the one that was taken back was told";
  EXPECT_GE(third.times, 1);
}

TEST_P(LoopContract, a_descriptor_is_closed_also_when_bytes_came_in_the_step_that_took_its_watch_back) {
  Seen seen;
  loop_->watch(near_.get(), seen.watch);
  seen.then = [&] {
    EXPECT_EQ(::write(far_.get(), "x", 1), 1);
    loop_->unwatch(near_.get(), seen.watch);
    near_.reset();
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
  };
  loop_->run();
  char byte = 0;
  const ssize_t count = ::recv(far_.get(), &byte, 1, MSG_DONTWAIT);
  EXPECT_TRUE(count == 0 || (count < 0 && errno == ECONNRESET)) << "the peer sees no end: " << std::strerror(errno);
}

INSTANTIATE_TEST_SUITE_P(Loops, LoopContract, testing::Values(LoopKind::kUring, LoopKind::kEpoll),
                         [](const auto& test) { return test.param == LoopKind::kUring ? "io_uring" : "epoll"; });

TEST(MakeLoop, says_which_and_why) {
  const auto automatic = make_loop(LoopKind::kAutomatic);
  ASSERT_TRUE(automatic) << automatic.error().to_string();
  EXPECT_TRUE(automatic->reason.starts_with(automatic->loop->name())) << automatic->reason;
  const auto epoll = make_loop(LoopKind::kEpoll);
  ASSERT_TRUE(epoll);
  EXPECT_EQ(epoll->loop->name(), "epoll");
}

}  // namespace
}  // namespace mesh::io
