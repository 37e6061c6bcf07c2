// SPDX-License-Identifier: Apache-2.0
#include "datapath/canary.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <sstream>

namespace mesh::datapath {
namespace {

using base::ErrorKind;
using base::Fd;
using base::SocketAddress;

constexpr int kCheckTimeoutMs = 700;  // four checks stay below the 5 s within which a lost hook must show
constexpr std::size_t kTokenLength = 16;
constexpr std::size_t kMessageMax = 4096;

constexpr bool is_tcp(CanaryKind kind) { return kind == CanaryKind::kTcp4 || kind == CanaryKind::kTcp6; }
constexpr bool is_v4(CanaryKind kind) { return kind == CanaryKind::kTcp4 || kind == CanaryKind::kUdp4; }

std::string errno_text(std::string_view doing) { return fmt::format("{}: {}", doing, std::strerror(errno)); }

// ---- the child's side: straight-line code with a deadline on each wait ----

bool wait_for(int fd, short events) {
  pollfd entry{fd, events, 0};
  int ready = 0;
  do {
    ready = ::poll(&entry, 1, kCheckTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

/// Without a hook the VIP must not be looked for outside this host: only loopback may carry the canary.
bool stay_on_loopback(int fd) { return ::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0; }

SocketAddress peer_of(const sockaddr_storage& storage) { return SocketAddress::from_sockaddr(storage); }

std::string read_token(int fd, std::string_view token) {
  std::array<char, 64> buffer{};
  if (!wait_for(fd, POLLIN)) return "no answer within 0.7 s";
  const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
  if (count < 0) return errno_text("recv");
  if (std::string_view(buffer.data(), static_cast<std::size_t>(count)) != token) return "somebody else answered";
  return {};
}

/// Returns what went wrong, or an empty string.
std::string check_tcp(const SocketAddress& vip, std::string_view token) {
  sockaddr_storage address;
  const socklen_t length = vip.to_sockaddr(address);
  const Fd fd(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() || !stay_on_loopback(fd.get())) return errno_text("open a socket on lo");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) {
    if (errno != EINPROGRESS) return errno_text("connect");
    if (!wait_for(fd.get(), POLLOUT)) return "connect: no answer within 0.7 s";
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return fmt::format("connect: {}", std::strerror(error));
  }
  sockaddr_storage peer{};
  socklen_t peer_length = sizeof(peer);
  if (::getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) return errno_text("getpeername");
  if (peer_of(peer) != vip) return "getpeername shows " + peer_of(peer).to_string();
  return read_token(fd.get(), token);
}

std::string check_udp(const SocketAddress& vip, std::string_view token) {
  sockaddr_storage address;
  const socklen_t length = vip.to_sockaddr(address);
  const Fd fd(::socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() || !stay_on_loopback(fd.get())) return errno_text("open a socket on lo");
  if (::sendto(fd.get(), "?", 1, 0, reinterpret_cast<sockaddr*>(&address), length) != 1) return errno_text("sendto");
  if (!wait_for(fd.get(), POLLIN)) return "no answer within 0.7 s";
  std::array<char, 64> buffer{};
  sockaddr_storage peer{};
  socklen_t peer_length = sizeof(peer);
  const ssize_t count =
      ::recvfrom(fd.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &peer_length);
  if (count < 0) return errno_text("recvfrom");
  if (peer_of(peer) != vip) return "recvfrom shows " + peer_of(peer).to_string();
  if (std::string_view(buffer.data(), static_cast<std::size_t>(count)) != token) return "somebody else answered";
  return {};
}

/// Starts a copy of this process in the leaf. A process that is born there costs nothing; one that moves takes a lock
/// that all forks of the host wait for, so that is only for kernels and sandboxes without clone3.
pid_t fork_into(const Fd& leaf) {
  clone_args arguments{};
  arguments.flags = CLONE_INTO_CGROUP;
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = static_cast<std::uint64_t>(leaf.get());
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (pid >= 0 || (errno != ENOSYS && errno != EPERM && errno != EINVAL)) return pid;
  const pid_t moved = ::fork();
  if (moved != 0) return moved;
  const Fd procs(::openat(leaf.get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!procs.valid() || ::write(procs.get(), "0", 1) != 1) ::_exit(1);
  return 0;
}

/// Runs `check` in a process inside the leaf, and leaves nothing behind: whoever stops what runs in that cgroup waits
/// until it is empty, and must not wait for a canary.
std::string in_leaf(const std::string& leaf, const std::function<std::string()>& check) {
  if (::mkdir(leaf.c_str(), 0755) != 0 && errno != EEXIST) return errno_text("mkdir " + leaf);
  std::string answer;
  {
    const Fd folder(::open(leaf.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::array<int, 2> ends{};
    if (!folder.valid() || ::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_text("open " + leaf);
    const Fd from_child(ends[0]);
    Fd to_parent(ends[1]);
    const pid_t pid = fork_into(folder);
    if (pid < 0) return errno_text("start a process in " + leaf);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string text = check() + '\t';  // never empty: an empty answer is a process that died
      ::_exit(::write(to_parent.get(), text.data(), text.size()) < 0 ? 1 : 0);
    }
    to_parent.reset();
    std::array<char, kMessageMax> buffer;
    for (ssize_t count = 0; (count = ::read(from_child.get(), buffer.data(), buffer.size())) > 0;) {
      answer.append(buffer.data(), static_cast<std::size_t>(count));
    }
    ::waitpid(pid, nullptr, 0);
  }
  ::rmdir(leaf.c_str());
  return answer.empty() ? "the process in " + leaf + " ended before its checks did" : answer;
}

/// Request: "LEAF\tVIP4 or -\tVIP6 or -\tTOKEN". Answer: "ERROR" then per kind "\tKIND\tDETAIL".
std::string serve_request(const std::string& request) {
  std::istringstream fields(request);
  std::string leaf, vip4, vip6, token;
  std::getline(fields, leaf, '\t');
  std::getline(fields, vip4, '\t');
  std::getline(fields, vip6, '\t');
  std::getline(fields, token, '\t');
  return in_leaf(leaf, [&] {
    std::string answer;
    for (std::size_t index = 0; index < kCanaryKinds; ++index) {
      const auto kind = static_cast<CanaryKind>(index);
      const auto vip = SocketAddress::parse(is_v4(kind) ? vip4 : vip6);
      if (!vip) continue;  // this family is not checked
      answer += fmt::format("\t{}\t{}", index, is_tcp(kind) ? check_tcp(*vip, token) : check_udp(*vip, token));
    }
    return answer;
  });
}

}  // namespace

std::string_view to_string(CanaryKind kind) {
  constexpr std::array<std::string_view, kCanaryKinds> kNames = {"tcp4", "tcp6", "udp4", "udp6"};
  return kNames[static_cast<std::size_t>(kind)];
}

bool CanaryReport::ok() const {
  return error.empty() && !checks.empty() &&
         std::ranges::all_of(checks, [](const CanaryCheck& check) { return check.ok; });
}

base::Result<CanaryServer> CanaryServer::open() {
  CanaryServer server;
  std::array<unsigned char, kTokenLength / 2> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return base::fail_errno(errno, "draw the canary's token");
  }
  for (const unsigned char byte : random) server.token_ += fmt::format("{:02x}", byte);
  for (std::size_t index = 0; index < kCanaryKinds; ++index) {
    const auto kind = static_cast<CanaryKind>(index);
    SocketAddress wanted;
    wanted.ip = *base::IpAddress::parse(is_v4(kind) ? "127.0.0.1" : "::1");
    sockaddr_storage address;
    socklen_t length = wanted.to_sockaddr(address);
    const int type = (is_tcp(kind) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    Fd fd(::socket(address.ss_family, type, 0));
    const bool bound = fd.valid() && ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                       (!is_tcp(kind) || ::listen(fd.get(), 64) == 0) &&
                       ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0;
    if (!bound) {
      if (!is_v4(kind) && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) continue;  // a host without IPv6
      return base::fail_errno(errno, fmt::format("listen on {} for the canary", wanted.ip.to_string()),
                              "bring the loopback interface up, or set agent.canary.enabled: false");
    }
    server.listeners_.push_back({kind, SocketAddress::from_sockaddr(address), std::move(fd)});
  }
  return server;
}

void CanaryServer::serve(const Listener& listener) const {
  for (int budget = 64; budget > 0; --budget) {
    if (is_tcp(listener.kind)) {
      const Fd peer(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!peer.valid()) return;
      // A fresh socket's buffer holds 16 bytes; a peer that is gone already is its own loss.
      [[maybe_unused]] const ssize_t sent = ::send(peer.get(), token_.data(), token_.size(), MSG_NOSIGNAL);
    } else {
      std::array<char, 64> buffer;
      sockaddr_storage address;
      socklen_t length = sizeof(address);
      auto* peer = reinterpret_cast<sockaddr*>(&address);
      if (::recvfrom(listener.fd.get(), buffer.data(), buffer.size(), 0, peer, &length) < 0) return;
      [[maybe_unused]] const ssize_t sent =
          ::sendto(listener.fd.get(), token_.data(), token_.size(), MSG_NOSIGNAL, peer, length);
    }
  }
}

CanaryChild::CanaryChild(pid_t pid, Fd socket) : pid_(pid), socket_(std::move(socket)) {}

CanaryChild::CanaryChild(CanaryChild&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      socket_(std::move(other.socket_)),
      pending_(std::move(other.pending_)),
      leaves_(std::move(other.leaves_)) {}

base::Result<CanaryChild> CanaryChild::spawn() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    return base::fail_errno(errno, "make the canary's socket pair");
  }
  Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  const std::string fd_text = std::to_string(theirs.get());
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return base::fail_errno(errno, "start the canary process");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::fcntl(theirs.get(), F_SETFD, 0);
    ::execl("/proc/self/exe", "meshd", "canary-child", fd_text.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  return CanaryChild(pid, std::move(ours));
}

CanaryChild::~CanaryChild() {
  if (pid_ < 0) return;
  socket_.reset();
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  for (const std::string& leaf : leaves_) ::rmdir(leaf.c_str());
}

base::Result<void> CanaryChild::request(const std::string& cgroup_root, const std::string& cgroup,
                                        const CanaryTargets& targets, std::string_view token) {
  MESH_ASSERT(!busy());
  const std::string leaf = fmt::format("{}{}{}{}", cgroup_root, cgroup, cgroup.ends_with('/') ? "" : "/", kCanaryLeaf);
  const std::string message = fmt::format("{}\t{}\t{}\t{}", leaf, targets.vip4 ? targets.vip4->to_string() : "-",
                                          targets.vip6 ? targets.vip6->to_string() : "-", token);
  if (::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0) {
    return base::fail_errno(errno, "ask the canary process");
  }
  if (std::ranges::find(leaves_, leaf) == leaves_.end()) leaves_.push_back(leaf);
  pending_ = cgroup;
  return {};
}

base::Result<CanaryReport> CanaryChild::take_report(base::WallTime now) {
  std::array<char, kMessageMax> buffer;
  const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count <= 0) {
    return base::fail(ErrorKind::kUnavailable, "hear from the canary process: it is gone",
                      "see the log for why; the agent starts another one");
  }
  CanaryReport report;
  report.cgroup = std::exchange(pending_, {});
  report.checked_at = now;
  std::istringstream fields(std::string(buffer.data(), static_cast<std::size_t>(count)));
  std::getline(fields, report.error, '\t');
  std::string index, detail;
  while (std::getline(fields, index, '\t')) {
    std::getline(fields, detail, '\t');
    report.checks.push_back({static_cast<CanaryKind>(index.front() - '0'), detail.empty(), detail});
    detail.clear();
  }
  return report;
}

int run_canary_child(int fd) {
  std::array<char, kMessageMax> buffer;
  while (true) {
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return 0;
    const std::string answer = serve_request(std::string(buffer.data(), static_cast<std::size_t>(count)));
    // SEQPACKET refuses an empty message's distinction from the end: a blank stands for "no error".
    const std::string message = answer.empty() ? std::string("\t") : answer;
    if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) < 0) return 1;
  }
}

}  // namespace mesh::datapath
