// SPDX-License-Identifier: Apache-2.0
// What a slow client can hold, on a clock that the test moves.
#include "app/admin_connection.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/support/fake_admin_backend.hpp"
#include "tests/support/fake_loop.hpp"

namespace mesh::app {
namespace {

using std::chrono::milliseconds;
using Answer = std::optional<io::FakeLoop::Answer>;
using Call = io::FakeLoop::Call;
using Kind = io::FakeLoop::Kind;

constexpr std::string_view kGet = "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr milliseconds kInstant{1};

class AdminConnectionTest : public testing::Test {
 protected:
  AdminConnectionTest() {
    loop_.script = [this](const Call& call) { return call.kind == Kind::kReceive ? say(call) : read(call); };
  }
  ~AdminConnectionTest() override {
    if (connection_ && !closed_) connection_->close();
    loop_.advance({});
  }

  void connect() {
    connection_ = std::make_shared<AdminConnection>(context_, ::socket(AF_UNIX, SOCK_STREAM, 0),
                                                    Caller{.access = Access::kChange, .uid = 0},
                                                    [this](auto*) { closed_ = true; });
    connection_->start();
  }
  void expect_closed_after(base::Duration deadline, std::uint64_t timeouts) {
    loop_.advance(deadline - kInstant);
    EXPECT_FALSE(closed_);
    loop_.advance(kInstant);
    EXPECT_TRUE(closed_);
    EXPECT_EQ(loop_.closed.size(), 1U) << "the descriptor is given back";
    EXPECT_EQ(counters_.timeouts, timeouts);
  }

  io::FakeLoop loop_;
  test::FakeAdminBackend backend_;
  AdminCounters counters_;
  AdminConnectionContext context_{loop_, backend_, counters_, "", nullptr};
  std::shared_ptr<AdminConnection> connection_;
  bool closed_ = false;
  // The client: says `words_` a piece at a time, and reads answers a piece at a time; piece 0: never.
  std::string words_;
  std::size_t say_piece_ = 1 << 12;
  std::size_t read_piece_ = 1 << 12;
  base::Duration pace_{0};
  std::string heard_;

 private:
  Answer say(const Call& call) {
    const std::size_t count = std::min({say_piece_, words_.size(), call.receive_buffer.size()});
    if (count == 0) return std::nullopt;
    std::ranges::copy(std::as_bytes(std::span(words_)).first(count), call.receive_buffer.begin());
    words_.erase(0, count);
    return io::FakeLoop::Answer{static_cast<std::int32_t>(count), pace_};
  }
  Answer read(const Call& call) {
    const std::size_t count = std::min(read_piece_, call.sent.size());
    if (count == 0) return std::nullopt;
    heard_.append(reinterpret_cast<const char*>(call.sent.data()), count);
    return io::FakeLoop::Answer{static_cast<std::int32_t>(count), pace_};
  }
};

TEST_F(AdminConnectionTest, a_silent_client_is_closed_and_is_no_trouble) {
  connect();
  expect_closed_after(kAdminIdleDeadline, 0);
}

TEST_F(AdminConnectionTest, a_client_between_requests_has_the_idle_deadline_anew) {
  words_ = kGet;
  connect();
  loop_.advance({});
  EXPECT_TRUE(heard_.starts_with("HTTP/1.1 200"));
  expect_closed_after(kAdminIdleDeadline, 0);
}

TEST_F(AdminConnectionTest, a_request_has_one_deadline_however_its_bytes_trickle) {
  words_ = "GET /v1/version HTTP/1.1\r\nX: " + std::string(1000, 'x');
  say_piece_ = 1;
  pace_ = milliseconds(100);
  connect();
  expect_closed_after(pace_ + kAdminRequestDeadline, 1);  // from its first byte
  EXPECT_EQ(counters_.requests, 0U);
  EXPECT_EQ(heard_, "");
}

TEST_F(AdminConnectionTest, a_request_that_stops_halfway_is_cut_off_also_after_a_whole_one) {
  words_ = std::string(kGet) + "GET /v1/ver";
  connect();
  loop_.advance({});
  EXPECT_TRUE(heard_.starts_with("HTTP/1.1 200"));
  expect_closed_after(kAdminRequestDeadline, 1);
  EXPECT_EQ(counters_.requests, 1U);
}

TEST_F(AdminConnectionTest, a_client_that_never_reads_is_cut_off) {
  words_ = kGet;
  read_piece_ = 0;
  connect();
  expect_closed_after(kAdminSendDeadline, 1);
}

TEST_F(AdminConnectionTest, an_answer_has_one_deadline_however_slowly_it_is_read) {
  backend_.metrics_text = std::string(10'000, 'm');
  words_ = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  connect();
  read_piece_ = 1;
  pace_ = milliseconds(10);
  expect_closed_after(kAdminSendDeadline, 1);
  EXPECT_GT(heard_.size(), 1000U);
}

TEST_F(AdminConnectionTest, a_backend_that_does_not_answer_has_a_deadline_and_its_late_answer_is_dropped) {
  backend_.reload_is_late = true;
  words_ = "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
  connect();
  expect_closed_after(kAdminAnswerDeadline, 1);
  ASSERT_TRUE(backend_.late_reload);
  backend_.late_reload(api::ReloadView{.ok = true});
  loop_.advance({});
  EXPECT_EQ(heard_, "");
}

}  // namespace
}  // namespace mesh::app
