// SPDX-License-Identifier: Apache-2.0
#include "io/uring_loop.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace mesh::io {
namespace {

// user_data of what is no Operation; both are below any address.
constexpr std::uint64_t kIgnore = 0;
constexpr std::uint64_t kWake = 1;

constexpr unsigned kSetupFlags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
                                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;

base::Error unavailable(int errnum) {
  using enum base::ErrorKind;
  const std::string doing = "io_uring_setup: " + std::string(std::strerror(errnum));
  switch (errnum) {
    case EPERM:
    case EACCES:
      return {kPermission, doing,
              "allow io_uring: sysctl kernel.io_uring_disabled=0 and, in a container, a seccomp "
              "profile that permits io_uring_*",
              errnum};
    case ENOSYS:
      return {kUnsupported, doing + " (no io_uring in this kernel, or a seccomp filter hides it)",
              "allow io_uring_* in the container's seccomp profile", errnum};
    case EINVAL:
      return {kUnsupported, doing + " (needs SINGLE_ISSUER and DEFER_TASKRUN)", "use Linux 6.1 or later", errnum};
    case ENOMEM:
      return {kExhausted, doing, "raise the limit on locked memory (LimitMEMLOCK=infinity)", errnum};
    default:
      return {kSystem, doing, {}, errnum};
  }
}

}  // namespace

base::Result<std::unique_ptr<UringLoop>> UringLoop::make(unsigned entries) {
  base::Fd wake = MESH_TRY(make_wake_fd());
  io_uring_params params{};
  params.flags = kSetupFlags;
  params.cq_entries = entries * 8;
  io_uring ring{};
  if (const int result = io_uring_queue_init_params(entries, &ring, &params); result < 0) {
    return std::unexpected(unavailable(-result));
  }
  return std::unique_ptr<UringLoop>(new UringLoop(std::move(wake), ring));
}

UringLoop::~UringLoop() { io_uring_queue_exit(&ring_); }

io_uring_sqe* UringLoop::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    MESH_ASSERT(enabled_);  // more operations than entries before run()
    const int result = io_uring_submit(&ring_);
    MESH_ASSERT(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void UringLoop::begin(io_uring_sqe* sqe, Operation& operation) {
  MESH_ASSERT(!operation.in_flight_);
  operation.in_flight_ = true;
  ++in_flight_count_;
  io_uring_sqe_set_data(sqe, &operation);
}

void UringLoop::accept(int listen_fd, Operation& operation) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_accept(sqe, listen_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  begin(sqe, operation);
}

void UringLoop::connect(int fd, const sockaddr* address, socklen_t length, Operation& operation) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_connect(sqe, fd, address, length);
  begin(sqe, operation);
}

void UringLoop::receive(int fd, std::span<std::byte> buffer, Operation& operation) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_recv(sqe, fd, buffer.data(), buffer.size(), 0);
  begin(sqe, operation);
}

void UringLoop::send(int fd, std::span<const std::byte> buffer, Operation& operation) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_send(sqe, fd, buffer.data(), buffer.size(), MSG_NOSIGNAL);
  begin(sqe, operation);
}

void UringLoop::poll(int fd, short events, Operation& operation) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_add(sqe, fd, static_cast<unsigned short>(events));
  begin(sqe, operation);
}

void UringLoop::poll_edges(int fd, std::uint64_t number) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_multishot(sqe, fd, POLLIN | POLLOUT | POLLRDHUP);
  io_uring_sqe_set_data64(sqe, number);
}

void UringLoop::watch(int fd, Watch& watch) { poll_edges(fd, watches_.add(fd, watch)); }

void UringLoop::unwatch(int, Watch& watch) {
  // The poll keeps the socket open until it is taken back, with the step that ends now at the latest. A cancel, as the
  // kernel refuses to remove a poll that has an event on its way (EALREADY): it would keep the socket open for good.
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_cancel64(sqe, watches_.remove(watch), 0);
  io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
  io_uring_sqe_set_data64(sqe, kIgnore);
}

void UringLoop::close(int fd) {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_close(sqe, fd);
  io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
  io_uring_sqe_set_data64(sqe, kIgnore);
}

void UringLoop::cancel(Operation& operation) {
  if (!operation.in_flight_) return;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_cancel(sqe, &operation, 0);
  io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
  io_uring_sqe_set_data64(sqe, kIgnore);
}

void UringLoop::run() {
  MESH_ASSERT(!enabled_);
  // By hand: the shared library of liburing 2.3 does not export the io_uring_enable_rings() that its header declares.
  const long result = ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  MESH_ASSERT(result == 0);
  enabled_ = true;
  io_uring_register_ring_fd(&ring_);  // saves the descriptor lookup of each call; without it all works the same
  listen_for_posts();
  stopped_ = false;
  while (!stopped_) {
    begin_step();
    reap();
    finish_step();
    if (!stopped_) submit_and_wait();
  }
  abandon_all();
}

void UringLoop::listen_for_posts() {
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_read(sqe, wake_.get(), &wake_value_, sizeof(wake_value_), 0);
  io_uring_sqe_set_data64(sqe, kWake);
}

void UringLoop::submit_and_wait() {
  const auto next = timers_.next();
  io_uring_cqe* cqe = nullptr;
  int result = 0;
  if (next) {
    const base::Duration left = std::max(*next - base::steady_now(), base::Duration(0));
    __kernel_timespec timeout{.tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
    result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  } else {
    result = io_uring_submit_and_wait(&ring_, 1);
  }
  MESH_ASSERT(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY);
}

void UringLoop::reap() {
  std::array<io_uring_cqe*, 128> batch;
  while (const unsigned count = io_uring_peek_batch_cqe(&ring_, batch.data(), batch.size())) {
    struct Completion {
      std::uint64_t user_data;
      std::int32_t result;
      std::uint32_t flags;
    };
    std::array<Completion, 128> completions;
    for (unsigned i = 0; i < count; ++i) completions[i] = {batch[i]->user_data, batch[i]->res, batch[i]->flags};
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      if (completions[i].user_data == kIgnore) continue;
      if (WatchTable::is_watch(completions[i].user_data)) {
        if (abandoning_) continue;
        const auto& [number, events, flags] = completions[i];
        // Rarely the kernel ends a poll by itself, as when the completion queue is full.
        const int fd = (flags & IORING_CQE_F_MORE) == 0 && events >= 0 ? watches_.fd_of(number) : -1;
        if (fd >= 0) poll_edges(fd, number);
        watches_.tell(number, events < 0 ? static_cast<unsigned>(POLLERR) : static_cast<unsigned>(events));
        continue;
      }
      if (completions[i].user_data == kWake) {
        if (!abandoning_) listen_for_posts();
        continue;
      }
      auto* operation = reinterpret_cast<Operation*>(completions[i].user_data);
      operation->in_flight_ = false;
      --in_flight_count_;
      if (!abandoning_) operation->complete(completions[i].result);
    }
  }
}

void UringLoop::abandon_all() {
  abandoning_ = true;
  while (in_flight_count_ > 0) {
    io_uring_sqe* sqe = next_sqe();
    io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data64(sqe, kIgnore);
    submit_and_wait();
    reap();
  }
  io_uring_submit(&ring_);  // closes that the last step asked for
}

}  // namespace mesh::io
