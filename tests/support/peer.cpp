// SPDX-License-Identifier: Apache-2.0
#include "tests/support/peer.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <csignal>

namespace mesh::test {

Listening::Listening(int backlog) : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in any{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  ::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any));
  ::listen(fd.get(), backlog);
  socklen_t length = sizeof(any);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &length);
  port = ntohs(any.sin_port);
}

std::uint16_t free_port() { return Listening().port; }

bool listens(std::uint16_t port) {
  const base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in there{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&there), sizeof(there)) == 0;
}

Peer::Peer(const std::function<void(int)>& serve)
    : process_(Process::start({}, [this, serve] {
        ::signal(SIGPIPE, SIG_IGN);
        ::signal(SIGCHLD, SIG_IGN);
        while (true) {
          const int fd = ::accept4(listening_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC);
          if (fd < 0) continue;
          if (::fork() == 0) {
            serve(fd);
            ::_exit(0);
          }
          ::close(fd);
        }
        return 0;
      })) {}

void say(int fd, std::string_view text) { [[maybe_unused]] const auto n = ::send(fd, text.data(), text.size(), 0); }

std::string hear(int fd) {
  char request[4096];
  const auto n = ::recv(fd, request, sizeof(request), 0);
  return {request, n > 0 ? static_cast<std::size_t>(n) : 0};
}

void linger(int fd) {
  while (!hear(fd).empty()) {
  }
}

}  // namespace mesh::test
