// SPDX-License-Identifier: Apache-2.0
#include "io/epoll_loop.hpp"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace mesh::io {
namespace {

constexpr std::int32_t kWouldBlock = -EAGAIN;

/// Outcome of a connect() that was begun; kWouldBlock while the handshake is under way.
std::int32_t connect_outcome(int fd) {
  pollfd ready{fd, POLLOUT, 0};
  if (::poll(&ready, 1, 0) <= 0) return kWouldBlock;
  int error = 0;
  socklen_t length = sizeof(error);
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return -errno;
  return -error;
}

std::int32_t poll_outcome(int fd, std::size_t events) {
  pollfd ready{fd, static_cast<short>(events), 0};
  const int count = ::poll(&ready, 1, 0);
  if (count < 0) return -errno;
  return count == 0 ? kWouldBlock : ready.revents;
}

std::int32_t as_result(ssize_t value) { return value >= 0 ? static_cast<std::int32_t>(value) : -errno; }

}  // namespace

base::Result<std::unique_ptr<EpollLoop>> EpollLoop::make() {
  base::Fd wake = MESH_TRY(make_wake_fd());
  base::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return base::fail_errno(errno, "epoll_create1");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<std::uint64_t>(wake.get())}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return base::fail_errno(errno, "epoll_ctl");
  return std::unique_ptr<EpollLoop>(new EpollLoop(std::move(wake), std::move(epoll)));
}

void EpollLoop::accept(int listen_fd, Operation& operation) { begin(listen_fd, kAccept, nullptr, 0, operation); }

void EpollLoop::connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) {
  const std::int32_t result = ::connect(fd, address, length) == 0 ? 0 : -errno;
  operation.in_flight_ = true;
  operation.fd_ = fd;
  operation.code_ = kConnect;
  if (result == -EINPROGRESS) {
    wait_for_edge(operation);
  } else {
    settle(operation, result);
  }
}

void EpollLoop::receive(int fd, std::span<std::byte> buffer, Operation& operation) {
  begin(fd, kReceive, buffer.data(), buffer.size(), operation);
}

void EpollLoop::send(int fd, std::span<const std::byte> buffer, Operation& operation) {
  begin(fd, kSend, const_cast<std::byte*>(buffer.data()), buffer.size(), operation);
}

void EpollLoop::poll(int fd, short events, Operation& operation) {
  begin(fd, kPoll, nullptr, static_cast<unsigned short>(events), operation);
}

void EpollLoop::watch(int fd, Watch& watch) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = watches_.add(fd, watch)}};
  // EEXIST: an operation had this descriptor before, and the kernel still knows it by that.
  int result = ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  if (result != 0 && errno == EEXIST) result = ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  MESH_ASSERT(result == 0);
}

void EpollLoop::unwatch(int fd, Watch& watch) {
  watches_.remove(watch);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void EpollLoop::close(int fd) {
  waiting_.erase(fd);
  ::close(fd);
}

void EpollLoop::cancel(Operation& operation) {
  if (!operation.in_flight_) return;
  const auto found = waiting_.find(operation.fd_);
  if (found == waiting_.end() || place(found->second, operation) != &operation) return;  // settled already
  place(found->second, operation) = nullptr;
  settle(operation, -ECANCELED);
}

void EpollLoop::begin(int fd, Code code, void* data, std::size_t size, Operation& operation) {
  MESH_ASSERT(!operation.in_flight_);
  operation.in_flight_ = true;
  operation.fd_ = fd;
  operation.code_ = code;
  operation.data_ = data;
  operation.size_ = size;
  Operation* trying = &operation;
  retry(trying);
  if (trying != nullptr) wait_for_edge(operation);
}

/// Tries the operation in `place`; if it does not block, settles it and empties the place.
void EpollLoop::retry(Operation*& place) {
  Operation& operation = *place;
  const int fd = operation.fd_;
  std::int32_t result = 0;
  do {
    switch (operation.code_) {
      case kAccept:
        result = as_result(::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        break;
      case kReceive:
        result = as_result(::recv(fd, operation.data_, operation.size_, MSG_DONTWAIT));
        break;
      case kConnect:
        result = connect_outcome(fd);
        break;
      case kSend:
        result = as_result(::send(fd, operation.data_, operation.size_, MSG_DONTWAIT | MSG_NOSIGNAL));
        break;
      default:
        result = poll_outcome(fd, operation.size_);
        break;
    }
  } while (result == -EINTR);
  if (result == kWouldBlock) return;
  place = nullptr;
  settle(operation, result);
}

void EpollLoop::settle(Operation& operation, std::int32_t result) {
  operation.data_ = nullptr;
  operation.size_ = static_cast<std::uint32_t>(result);
  operation.next_ = nullptr;
  (settled_last_ == nullptr ? settled_first_ : settled_last_->next_) = &operation;
  settled_last_ = &operation;
}

Operation*& EpollLoop::place(Waiting& waiting, const Operation& operation) {
  switch (operation.code_) {
    case kAccept:
    case kReceive:
      return waiting.input;
    case kConnect:
    case kSend:
      return waiting.output;
    default:
      return waiting.poll;
  }
}

void EpollLoop::wait_for_edge(Operation& operation) {
  Operation*& waiting = place(waiting_[operation.fd_], operation);
  MESH_ASSERT(waiting == nullptr);  // two operations of one kind on one descriptor
  // Added each time anew: the kernel forgets a descriptor when it is closed, whoever closes it. EEXIST: still known,
  // and an edge since the last look is queued.
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                    .data = {.u64 = static_cast<std::uint64_t>(operation.fd_)}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, operation.fd_, &event) != 0 && errno != EEXIST) {
    settle(operation, -errno);
    return;
  }
  waiting = &operation;
}

void EpollLoop::run() {
  stopped_ = false;
  while (true) {
    begin_step();
    complete_settled();
    finish_step();
    if (stopped_) break;
    int timeout_ms = -1;
    if (settled_first_ != nullptr) {
      timeout_ms = 0;
    } else if (const auto next = timers_.next()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - base::steady_now());
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, INT_MAX));
    }
    std::array<epoll_event, 256> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), timeout_ms);
    MESH_ASSERT(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (WatchTable::is_watch(event.data.u64)) {
        watches_.tell(event.data.u64, event.events);
        continue;
      }
      const int fd = event.data.fd;
      if (fd == wake_.get()) {
        std::uint64_t value = 0;
        [[maybe_unused]] const ssize_t size = ::read(fd, &value, sizeof(value));
        continue;
      }
      const auto found = waiting_.find(fd);
      if (found == waiting_.end()) continue;
      if (found->second.input != nullptr) retry(found->second.input);
      if (found->second.output != nullptr) retry(found->second.output);
      if (found->second.poll != nullptr) retry(found->second.poll);
    }
  }
  abandon_all();
}

void EpollLoop::complete_settled() {
  Operation* operation = settled_first_;
  settled_first_ = settled_last_ = nullptr;
  while (operation != nullptr) {
    Operation* const next = operation->next_;
    operation->in_flight_ = false;
    operation->complete(static_cast<std::int32_t>(operation->size_));
    operation = next;
  }
}

void EpollLoop::abandon_all() {
  for (auto& [fd, waiting] : waiting_) {
    for (Operation* operation : {waiting.input, waiting.output, waiting.poll}) {
      if (operation != nullptr) operation->in_flight_ = false;
    }
  }
  waiting_.clear();
  for (Operation* operation = settled_first_; operation != nullptr; operation = operation->next_) {
    operation->in_flight_ = false;
  }
  settled_first_ = settled_last_ = nullptr;
}

}  // namespace mesh::io
