// SPDX-License-Identifier: Apache-2.0
#include "tests/support/identify_server.hpp"

#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>

#include "tests/support/shared_memory.hpp"

namespace mesh::test {
namespace {

constexpr int kBacklog = 65535;

enum class Kind { kTcp, kUdp, kHttp, kHttpConnection };

int listen_on(std::uint16_t port, int type) {
  const int fd = ::socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  const int zero = 0;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      (type == SOCK_STREAM && ::listen(fd, kBacklog) != 0)) {
    throw std::runtime_error("listen on port " + std::to_string(port) + ": " + std::strerror(errno));
  }
  return fd;
}

std::string http_answer(int status, const std::string& name) {
  const std::string body = name + "\n";
  return "HTTP/1.1 " + std::to_string(status) + (status < 400 ? " OK" : " Failed") +
         "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

IdentifyServer::IdentifyServer(Lab& lab, const Host& host, IdentifyPorts ports, std::string name)
    : options_(lab.on(host, "servers", "server-" + host.name() + ".log")),
      ports_(std::move(ports)),
      name_(name.empty() ? host.name() : std::move(name)),
      shared_(make_shared_memory<Shared>()) {
  start();
}

void IdentifyServer::start() {
  shared_->ready = false;
  process_ = Process::start(options_, [this] { return serve(ports_, name_, *shared_); });
  if (!eventually(std::chrono::seconds(5), [this] { return shared_->ready.load() || !process_.running(); }) ||
      !process_.running()) {
    throw std::runtime_error("server " + name_ + " does not start; see " + options_.output);
  }
}

void IdentifyServer::stop() const { process_.signal(SIGSTOP); }
void IdentifyServer::resume() const { process_.signal(SIGCONT); }

int IdentifyServer::serve(const IdentifyPorts& ports, const std::string& name, Shared& shared) {
  ::signal(SIGPIPE, SIG_IGN);
  // Of our network namespace. A client in a tight loop fills 4096 in a quarter of a second in which we don't run; then
  // SYNs are dropped, and are sent again when the client has given up.
  std::ofstream("/proc/sys/net/core/somaxconn") << kBacklog;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  std::map<int, Kind> kinds;
  std::map<int, std::string> requests;  // what a connection sent of its current HTTP request
  const auto watch = [&](int fd, Kind kind) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    kinds[fd] = kind;
  };
  for (const auto port : ports.tcp) watch(listen_on(port, SOCK_STREAM), Kind::kTcp);
  for (const auto port : ports.http) watch(listen_on(port, SOCK_STREAM), Kind::kHttp);
  for (const auto port : ports.udp) watch(listen_on(port, SOCK_DGRAM), Kind::kUdp);
  shared.ready = true;

  const std::string greeting = name + "\n";
  std::array<epoll_event, 64> events{};
  while (true) {
    const int count = ::epoll_wait(epoll, events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      std::array<char, 4096> buffer;
      switch (kinds[fd]) {
        case Kind::kTcp:
          for (int peer = 0; (peer = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
            ++shared.tcp_accepts;
            [[maybe_unused]] const auto sent = ::send(peer, greeting.data(), greeting.size(), MSG_NOSIGNAL);
            ::close(peer);
          }
          break;
        case Kind::kUdp: {
          sockaddr_storage from{};
          socklen_t length = sizeof from;
          while (::recvfrom(fd, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length) >= 0) {
            ::sendto(fd, greeting.data(), greeting.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
            length = sizeof from;
          }
          break;
        }
        case Kind::kHttp:
          for (int peer = 0; (peer = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
            watch(peer, Kind::kHttpConnection);
          }
          break;
        case Kind::kHttpConnection: {
          const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), 0);
          if (size <= 0) {
            kinds.erase(fd);
            requests.erase(fd);
            ::close(fd);
            break;
          }
          std::string& request = requests[fd].append(buffer.data(), static_cast<std::size_t>(size));
          for (std::size_t end = 0; (end = request.find("\r\n\r\n")) != std::string::npos;) {
            request.erase(0, end + 4);
            ++shared.http_requests;
            const std::string answer = http_answer(shared.http_status, name);
            [[maybe_unused]] const auto sent = ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
          }
          break;
        }
      }
    }
  }
}

}  // namespace mesh::test
