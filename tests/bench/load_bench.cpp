// SPDX-License-Identifier: Apache-2.0
// Connections by the thousand, where the caller put this process (namespace, cgroup).
//
//   load_bench hold --to A:P+A:P --count N            opens N TCP connections and keeps them until stdin ends
//   load_bench paced --to A:P --rate R --seconds S    opens and resets R connections per second
//   load_bench listen --at A:P+A:P [--accept]         completes handshakes, until stdin ends; accepts and closes, or
//   not:
//                                                     what waits to be accepted needs no file descriptor
//
// Prints one JSON object when it is done, `hold` and `listen` a first line "ready" when they are.
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/fd.hpp"

namespace mesh::bench {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<base::SocketAddress> parse_addresses(const std::string& text) {
  std::vector<base::SocketAddress> addresses;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    const auto address = base::SocketAddress::parse(text.substr(begin, end - begin));
    if (!address) throw CLI::ValidationError("address", address.error().to_string());
    addresses.push_back(*address);
    begin = end + 1;
  }
  return addresses;
}

/// errno, or 0 and the connected socket.
int open_connection(const base::SocketAddress& to, base::Fd& fd) {
  sockaddr_storage storage{};
  const socklen_t length = to.to_sockaddr(storage);
  fd.reset(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0 ? 0 : errno;
}

void wait_for_end_of_input() {
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

void accept_until_end_of_input(const std::vector<base::Fd>& listeners) {
  std::vector<pollfd> ready{{STDIN_FILENO, POLLIN, 0}};
  for (const base::Fd& listener : listeners) ready.push_back({listener.get(), POLLIN, 0});
  while (::poll(ready.data(), ready.size(), -1) >= 0 && ready.front().revents == 0) {
    for (const pollfd& one : ready) {
      if (one.revents != 0) base::Fd(::accept4(one.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    }
  }
}

void say_ready() {
  std::puts("ready");
  std::fflush(stdout);
}

int hold(const std::vector<base::SocketAddress>& to, unsigned count) {
  std::vector<base::Fd> sockets(count);
  unsigned failed = 0;
  int last = 0;
  const auto begin = Clock::now();
  for (unsigned i = 0; i < count; ++i) {
    if (const int error = open_connection(to[i % to.size()], sockets[i])) {
      ++failed;
      last = error;
    }
  }
  const std::chrono::duration<double> took = Clock::now() - begin;
  say_ready();
  wait_for_end_of_input();
  std::printf("{\"opened\": %u, \"failed\": %u, \"errno\": %d, \"seconds\": %.3f}\n", count - failed, failed, last,
              took.count());
  return failed == 0 ? 0 : 1;
}

int paced(const base::SocketAddress& to, unsigned rate, unsigned seconds) {
  constexpr auto kTick = std::chrono::milliseconds(5);
  const linger reset{1, 0};
  std::uint64_t done = 0, failed = 0;
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::seconds(seconds);
  for (auto now = begin; now < end; now = Clock::now()) {
    const auto due = static_cast<std::uint64_t>(std::chrono::duration<double>(now - begin).count() * rate);
    for (; done < due; ++done) {
      base::Fd fd;
      if (open_connection(to, fd) != 0) {
        ++failed;
        continue;
      }
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    const timespec pause{0, std::chrono::nanoseconds(kTick).count()};
    ::nanosleep(&pause, nullptr);
  }
  const std::chrono::duration<double> took = Clock::now() - begin;
  std::printf("{\"opened\": %llu, \"failed\": %llu, \"per_second\": %.0f}\n",
              static_cast<unsigned long long>(done - failed), static_cast<unsigned long long>(failed),
              static_cast<double>(done) / took.count());
  return failed == 0 ? 0 : 1;
}

int listen_at(const std::vector<base::SocketAddress>& addresses, bool accept) {
  std::vector<base::Fd> sockets;
  for (const base::SocketAddress& address : addresses) {
    sockaddr_storage storage{};
    const socklen_t length = address.to_sockaddr(storage);
    base::Fd& fd = sockets.emplace_back(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    constexpr int kBacklog = 1 << 20;  // cut to net.core.somaxconn
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 ||
        ::listen(fd.get(), kBacklog) != 0) {
      std::perror("load_bench: listen");
      return 1;
    }
  }
  say_ready();
  if (accept) {
    accept_until_end_of_input(sockets);
  } else {
    wait_for_end_of_input();
  }
  return 0;
}

int run(int argc, char** argv) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);

  CLI::App app("Connections by the thousand.");
  app.require_subcommand(1);
  std::string to;
  unsigned count = 1000, rate = 1000, seconds = 10;
  auto* hold_command = app.add_subcommand("hold");
  hold_command->add_option("--to", to)->required();
  hold_command->add_option("--count", count);
  auto* paced_command = app.add_subcommand("paced");
  paced_command->add_option("--to", to)->required();
  paced_command->add_option("--rate", rate);
  paced_command->add_option("--seconds", seconds);
  auto* listen_command = app.add_subcommand("listen");
  listen_command->add_option("--at", to)->required();
  bool accept = false;
  listen_command->add_flag("--accept", accept);
  try {
    app.parse(argc, argv);
    const auto addresses = parse_addresses(to);
    if (hold_command->parsed()) return hold(addresses, count);
    return paced_command->parsed() ? paced(addresses.front(), rate, seconds) : listen_at(addresses, accept);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) { return mesh::bench::run(argc, argv); }
