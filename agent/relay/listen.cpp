// SPDX-License-Identifier: Apache-2.0
#include "relay/listen.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

namespace mesh::relay {
namespace {

constexpr int kBacklog = 4096;  // connections that wait while a relay is restarted; the kernel's somaxconn caps it

void set(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof(value)); }

}  // namespace

void set_stream_options(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
}

base::Result<base::Fd> listen_on(const base::SocketAddress& address) {
  const std::string what = "listen on " + address.to_string();
  const int family = address.ip.is_v4() ? AF_INET : AF_INET6;
  base::Fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::fail_errno(errno, what);
  set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (family == AF_INET6) set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, address.ip.is_unspecified() ? 0 : 1);
  set_stream_options(fd.get());
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    const int errnum = errno;
    std::string remedy;
    if (errnum == EADDRINUSE) remedy = "another process listens there: ss -ltnp";
    if (errnum == EACCES) remedy = "ports below 1024 need CAP_NET_BIND_SERVICE";
    if (errnum == EADDRNOTAVAIL) remedy = "this host has no such address";
    return base::fail_errno(errnum, what, std::move(remedy));
  }
  return fd;
}

}  // namespace mesh::relay
