// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/effect.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/bench/statistics.hpp"

namespace mesh::bench {
namespace {

constexpr auto kLost = std::chrono::seconds(1);

/// Anything but accepted or refused is an error that ends the run.
Side probe(const base::SocketAddress& address) {
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  const base::Fd fd(socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  constexpr linger kReset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0) return Side::kOpen;
  if (errno == ECONNREFUSED) return Side::kClosed;
  fmt::print(stderr, "connect to {}: errno {}: is this cgroup attached?\n", address.to_string(), errno);
  std::exit(1);
}

std::vector<std::string> histogram(const std::vector<double>& values) {
  constexpr std::array kBounds{0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0};
  std::vector<std::size_t> counts(kBounds.size());
  for (const double value : values) {
    const auto bound = std::ranges::lower_bound(kBounds, value);
    ++counts[std::min<std::size_t>(kBounds.size() - 1, static_cast<std::size_t>(bound - kBounds.begin()))];
  }
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::size_t width = values.empty() ? 0 : (counts[i] * 50 + values.size() - 1) / values.size();
    lines.push_back(fmt::format("<= {:7} ms {:6} {}", kBounds[i], counts[i], std::string(width, '#')));
  }
  return lines;
}

}  // namespace

OpenPort::OpenPort() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const base::SocketAddress address{.ip = *base::IpAddress::parse("127.0.0.1"), .port = kOpenPort};
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  const int one = 1;
  setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 ||
      listen(listener_.get(), 4096) != 0) {
    fmt::print(stderr, "listen at {}: errno {}\n", address.to_string(), errno);
    std::exit(1);
  }
  acceptor_ = std::thread([this] {
    while (!stop_) const base::Fd accepted(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  });
}

OpenPort::~OpenPort() {
  stop_ = true;
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
}

Watcher::Watcher() : thread_([this] { run(); }) {}

void Watcher::add(Change change) {
  const std::lock_guard lock(mutex_);
  fresh_.push_back(change);
}

void Watcher::finish() {
  finished_ = true;
  if (thread_.joinable()) thread_.join();
}

void Watcher::run() {
  std::vector<Change> outstanding;
  while (true) {
    const bool last = finished_.load();
    {
      const std::lock_guard lock(mutex_);
      outstanding.insert(outstanding.end(), fresh_.begin(), fresh_.end());
      fresh_.clear();
    }
    if (last && outstanding.empty()) return;
    std::erase_if(outstanding, [this](const Change& change) { return settled(change); });
    usleep(50);  // to look all the time would take a CPU from what is measured
  }
}

bool Watcher::settled(const Change& change) {
  const bool flipped = probe(change.service) == change.side;
  const base::Duration age = base::steady_now() - change.made;
  if (flipped) {
    latencies_ms_.push_back(static_cast<double>(age.count()) / 1e6);
  } else if (age > kLost) {
    ++lost_;
  }
  return flipped || age > kLost;
}

nlohmann::json Watcher::report() const {
  nlohmann::json out = {{"lost", lost_}, {"histogram", histogram(latencies_ms_)}};
  if (!latencies_ms_.empty()) {
    out["median_ms"] = quantile(latencies_ms_, 0.5);
    out["p99_ms"] = quantile(latencies_ms_, 0.99);
    out["max_ms"] = quantile(latencies_ms_, 1);
  }
  return out;
}

}  // namespace mesh::bench
