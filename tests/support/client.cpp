// SPDX-License-Identifier: Apache-2.0
#include "tests/support/client.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "tests/support/shared_memory.hpp"

namespace mesh::test {
namespace {

using Clock = std::chrono::steady_clock;

/// Where a call goes, in the form that its socket's family wants.
struct Destination {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Destination resolve(const std::string& text, Via via) {
  const auto parsed = base::SocketAddress::parse(text);
  if (!parsed) throw std::runtime_error(parsed.error().to_string());
  Destination destination;
  if (via == Via::kTcpMapped) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(destination.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(parsed->port);
    std::memcpy(&v6.sin6_addr, parsed->ip.bytes.data(), parsed->ip.bytes.size());
    destination.length = sizeof v6;
  } else {
    destination.length = parsed->to_sockaddr(destination.storage);
  }
  return destination;
}

std::string show(const sockaddr_storage& storage) { return base::SocketAddress::from_sockaddr(storage).to_string(); }

void set_timeout(int fd, std::chrono::milliseconds timeout) {
  const timeval value{timeout.count() / 1000, (timeout.count() % 1000) * 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);  // bounds connect() as well
}

int patient(int errnum) { return errnum == EAGAIN || errnum == EINPROGRESS ? ETIMEDOUT : errnum; }

Call call_once(Via via, const Destination& destination, std::chrono::milliseconds timeout, bool read_name) {
  const bool tcp = via == Via::kTcp || via == Via::kTcpMapped;
  const base::Fd fd(::socket(destination.storage.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  const auto* address = reinterpret_cast<const sockaddr*>(&destination.storage);
  Call result;
  set_timeout(fd.get(), timeout);
  if (tcp) {  // closed by reset: a tight loop must not run out of ports
    const linger reset{1, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  const auto start = Clock::now();
  const auto failed = [&] {
    result.errnum = patient(errno);
    result.connect_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    return result;
  };
  sockaddr_storage peer{};
  socklen_t peer_length = sizeof peer;
  if (via != Via::kUdpUnconnected) {
    if (::connect(fd.get(), address, destination.length) != 0) return failed();
    result.connect_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    if (tcp && !read_name) return result;
    if (::getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length) == 0) result.peer = show(peer);
    if (!tcp && ::send(fd.get(), "?", 1, 0) != 1) return failed();
  } else if (::sendto(fd.get(), "?", 1, 0, address, destination.length) != 1) {
    return failed();
  }
  std::array<char, 256> buffer;
  peer_length = sizeof peer;
  const ssize_t size =
      ::recvfrom(fd.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_length);
  if (size < 0) return failed();
  if (via == Via::kUdpUnconnected) result.peer = show(peer);
  result.backend.assign(buffer.data(), static_cast<std::size_t>(size));
  while (!result.backend.empty() && result.backend.back() == '\n') result.backend.pop_back();
  if (result.backend.empty()) result.errnum = ECONNRESET;
  return result;
}

}  // namespace

std::string_view to_string(Via via) {
  switch (via) {
    case Via::kTcp:
      return "tcp";
    case Via::kTcpMapped:
      return "tcp (v4-mapped)";
    case Via::kUdpConnected:
      return "udp (connected)";
    case Via::kUdpUnconnected:
      return "udp (unconnected)";
  }
  return "?";
}

std::vector<Call> call(const SpawnOptions& where, Via via, const std::string& address, int count,
                       std::chrono::milliseconds timeout) {
  const Destination destination = resolve(address, via);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  Process child = Process::start(where, [&] {
    for (int i = 0; i < count; ++i) {
      const Call made = call_once(via, destination, timeout, true);
      std::ostringstream line;
      line << made.errnum << ' ' << made.connect_ms << ' ' << (made.peer.empty() ? "-" : made.peer) << ' '
           << made.backend << '\n';
      const std::string text = line.str();
      if (::write(ends[1], text.data(), text.size()) < 0) return 1;
    }
    return 0;
  });
  ::close(ends[1]);
  std::string text;
  std::array<char, 65536> buffer;
  for (ssize_t size = 0; (size = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  std::vector<Call> calls;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Call made;
    std::istringstream fields(line);
    fields >> made.errnum >> made.connect_ms >> made.peer;
    std::getline(fields >> std::ws, made.backend);
    calls.push_back(made);
  }
  if (calls.size() != static_cast<std::size_t>(count)) throw std::runtime_error("the calling process ended early");
  return calls;
}

std::map<std::string, int> tally(const std::vector<Call>& calls) {
  std::map<std::string, int> counts;
  for (const Call& made : calls) {
    ++counts[made.errnum == 0 ? made.backend : std::string("errno ") + ::strerrorname_np(made.errnum)];
  }
  return counts;
}

ConnectLoop::ConnectLoop(const SpawnOptions& where, std::vector<LoopTarget> targets)
    : targets_(std::move(targets)), shared_(make_shared_memory<Shared>()) {
  if (targets_.size() > kTargets) throw std::runtime_error("too many targets for one loop");
  process_ = Process::start(where, [this] { return body(targets_, *shared_); });
}

int ConnectLoop::body(const std::vector<LoopTarget>& targets, Shared& shared) {
  std::vector<Destination> destinations;
  for (const LoopTarget& target : targets) destinations.push_back(resolve(target.address, target.via));
  while (!shared.stop.load(std::memory_order_relaxed)) {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const auto start = Clock::now();
      const Call made = call_once(targets[i].via, destinations[i], std::chrono::seconds(1), false);
      const auto took = static_cast<std::uint64_t>((Clock::now() - start).count());
      Cell& cell = shared.cells[i];
      if (made.errnum != 0) {
        if (cell.failures.fetch_add(1) == 0) cell.first_errno = made.errnum;
      }
      if (took > cell.longest_ns.load()) cell.longest_ns = took;
      cell.attempts.fetch_add(1);
    }
  }
  return 0;
}

bool ConnectLoop::await_rounds(std::uint64_t rounds) const {
  const std::uint64_t goal = shared_->cells[targets_.size() - 1].attempts.load() + rounds;
  return eventually(std::chrono::seconds(10),
                    [&] { return shared_->cells[targets_.size() - 1].attempts.load() >= goal; });
}

std::uint64_t ConnectLoop::attempts() const {
  std::uint64_t sum = 0;
  for (const Cell& cell : shared_->cells) sum += cell.attempts.load();
  return sum;
}

std::uint64_t ConnectLoop::failures() const {
  std::uint64_t sum = 0;
  for (const Cell& cell : shared_->cells) sum += cell.failures.load();
  return sum;
}

std::vector<ConnectLoop::Counts> ConnectLoop::finish() {
  shared_->stop = true;
  if (!process_.wait(std::chrono::seconds(5))) process_.kill();
  std::vector<Counts> counts;
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    const Cell& cell = shared_->cells[i];
    counts.push_back({cell.attempts, cell.failures, cell.first_errno, static_cast<double>(cell.longest_ns) / 1e6});
  }
  return counts;
}

}  // namespace mesh::test
