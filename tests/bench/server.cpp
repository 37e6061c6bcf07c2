// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/server.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <unordered_map>

namespace mesh::bench {
namespace {

using base::fail_errno;
using base::Result;

constexpr int kBacklog = 4096;

Result<base::Fd> listen_at(const base::SocketAddress& address) {
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  base::Fd fd(socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (!fd.valid() || bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 ||
      listen(fd.get(), kBacklog) != 0) {
    return fail_errno(errno, fmt::format("listen at {}", address.to_string()));
  }
  return fd;
}

void watch(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/// Echoes, or in kBulk counts and answers one byte per block.
[[noreturn]] void serve(const std::vector<base::Fd>& listeners, Mode mode, std::size_t block_bytes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const base::Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  std::unordered_map<int, std::size_t> counted;  // connection -> bytes of its current block
  for (const base::Fd& listener : listeners) watch(epoll.get(), listener.get());
  std::vector<char> buffer(256 * 1024);
  std::array<epoll_event, 64> events{};
  while (true) {
    const int ready = epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      const auto connection = counted.find(fd);
      if (connection == counted.end()) {
        const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) continue;
        const int one = 1;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        counted.emplace(accepted, 0);
        watch(epoll.get(), accepted);
        continue;
      }
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) {
        counted.erase(connection);
        close(fd);
      } else if (mode != Mode::kBulk) {
        // Answers are at most as large as requests, which are small: a full socket buffer can't happen.
        send(fd, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
      } else if ((connection->second += static_cast<std::size_t>(got)) >= block_bytes) {
        connection->second -= block_bytes;
        send(fd, "k", 1, MSG_NOSIGNAL);
      }
    }
  }
}

}  // namespace

Result<ServerSpec> ServerSpec::parse(std::string_view text) {
  // The same grammar as a target's, with "at" for "to".
  std::string as_target = "name=server";
  for (std::size_t start = 0; start <= text.size();) {
    const std::string_view item = text.substr(start, text.find(',', start) - start);
    start += item.size() + 1;
    as_target += ',';
    as_target += item.starts_with("at=") ? "to=" + std::string(item.substr(3)) : std::string(item);
  }
  TargetSpec target = MESH_TRY(TargetSpec::parse(as_target));
  return ServerSpec{.netns = std::move(target.netns), .at = std::move(target.to)};
}

Result<Server> Server::start(const ServerSpec& spec, Mode mode, int cpu, std::size_t block_bytes) {
  const base::Fd home(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  MESH_CHECK(enter_netns(spec.netns));
  Server server;
  Result<void> listening;
  for (const base::SocketAddress& address : spec.at) {
    Result<base::Fd> fd = listen_at(address);
    if (!fd) {
      listening = std::unexpected(std::move(fd).error());
      break;
    }
    server.listeners_.push_back(std::move(*fd));
  }
  if (setns(home.get(), CLONE_NEWNET) != 0) return fail_errno(errno, "return to the network namespace");
  MESH_CHECK(listening);
  if (mode == Mode::kBare) return server;
  server.pid_ = fork();
  if (server.pid_ < 0) return fail_errno(errno, "fork");
  if (server.pid_ == 0) {
    if (!pin_to_cpu(cpu)) _exit(1);
    serve(server.listeners_, mode, block_bytes);
  }
  return server;
}

Server::~Server() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Server::drain() const {
  if (pid_ > 0) return;
  for (const base::Fd& listener : listeners_) {
    while (true) {
      const int accepted = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (accepted < 0) break;
      close(accepted);
    }
  }
}

}  // namespace mesh::bench
