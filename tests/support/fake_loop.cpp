// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_loop.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace mesh::io {

void FakeLoop::advance(base::Duration by) {
  const base::TimePoint end = now_ + by;
  settle();
  while (true) {
    std::optional<base::TimePoint> next = timers_.next();
    for (const Pending& pending : pending_) {
      if (pending.due && (!next || *pending.due < *next)) next = pending.due;
    }
    if (!next || *next > end) break;
    now_ = std::max(now_, *next);
    settle();
    timers_.expire(now_);
    settle();
  }
  now_ = end;
}

void FakeLoop::settle() {
  while (true) {
    if (!posted_.empty()) {
      auto work = std::move(posted_.front());
      posted_.erase(posted_.begin());
      work();
      continue;
    }
    const auto ready = std::ranges::find_if(pending_, [this](const Pending& p) { return p.due && *p.due <= now_; });
    if (ready == pending_.end()) return;
    const Pending done = *ready;
    pending_.erase(ready);
    done.operation->in_flight_ = false;
    done.operation->complete(done.result);
  }
}

void FakeLoop::begin(const Call& call, Operation& operation) {
  MESH_ASSERT(!operation.in_flight_);
  operation.in_flight_ = true;
  calls.push_back(call);
  const auto answer = script(call);
  pending_.push_back(
      {&operation, answer ? answer->result : 0, answer ? std::optional(now_ + answer->delay) : std::nullopt});
}

void FakeLoop::accept(int listen_fd, Operation& operation) {
  begin({.kind = Kind::kAccept, .fd = listen_fd, .at = now_}, operation);
}

void FakeLoop::connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) {
  sockaddr_storage storage{};
  std::memcpy(&storage, address, length);
  begin({.kind = Kind::kConnect, .fd = fd, .at = now_, .address = base::SocketAddress::from_sockaddr(storage)},
        operation);
}

void FakeLoop::receive(int fd, std::span<std::byte> buffer, Operation& operation) {
  begin({.kind = Kind::kReceive, .fd = fd, .at = now_, .receive_buffer = buffer}, operation);
}

void FakeLoop::send(int fd, std::span<const std::byte> buffer, Operation& operation) {
  begin({.kind = Kind::kSend, .fd = fd, .at = now_, .sent = buffer}, operation);
}

void FakeLoop::poll(int fd, short, Operation& operation) {
  begin({.kind = Kind::kPoll, .fd = fd, .at = now_}, operation);
}

void FakeLoop::watch(int fd, Watch& watch) {
  MESH_ASSERT(!watch.watching());
  watch.slot_ = 0;
  watches_.push_back({fd, &watch});
}

void FakeLoop::unwatch(int, Watch& watch) {
  watch.slot_ = Watch::kNone;
  std::erase_if(watches_, [&](const Watched& one) { return one.watch == &watch; });
}

void FakeLoop::tell_watches() {
  settle();
  for (int round = 0; round < 64; ++round) {
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      pollfd now{watches_[i].fd, POLLIN | POLLOUT | POLLRDHUP, 0};
      if (::poll(&now, 1, 0) <= 0) continue;
      watches_[i].watch->ready(static_cast<unsigned>(now.revents));
      settle();
    }
  }
}

void FakeLoop::close(int fd) {
  closed.push_back(fd);
  ::close(fd);
}

void FakeLoop::cancel(Operation& operation) {
  for (Pending& pending : pending_) {
    if (pending.operation != &operation) continue;
    pending.result = -ECANCELED;
    pending.due = now_;
  }
}

}  // namespace mesh::io
