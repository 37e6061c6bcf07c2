// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/target.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/clock.hpp"

namespace mesh::bench {
namespace {

using base::ErrorKind;
using base::fail;
using base::fail_errno;
using base::Result;

constexpr std::uint32_t kWarmUp = 4;  ///< Repetitions before the clock starts: the caches are the last target's.

struct Peer {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

/// Sends and receives the same number of bytes. False with errno.
bool round_trip(int fd, std::byte* buffer, std::size_t size) {
  if (send(fd, buffer, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) return false;
  for (std::size_t have = 0; have < size;) {
    const ssize_t got = recv(fd, buffer + have, size - have, 0);
    if (got <= 0) {
      if (got == 0) errno = ECONNRESET;
      return false;
    }
    have += static_cast<std::size_t>(got);
  }
  return true;
}

/// The loop of the child.
class Worker {
 public:
  Worker(const TargetSpec& spec, Mode mode) : mode_(mode), getpeername_(spec.getpeername) {
    for (const base::SocketAddress& address : spec.to) {
      Peer& peer = peers_.emplace_back();
      peer.length = address.to_sockaddr(peer.storage);
    }
  }

  /// For the modes that keep one connection. 0 or errno.
  int prepare() {
    if (mode_ != Mode::kRequest && mode_ != Mode::kBulk) return 0;
    const Peer& peer = peers_.front();
    connection_.reset(socket(peer.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!connection_.valid() ||
        connect(connection_.get(), reinterpret_cast<const sockaddr*>(&peer.storage), peer.length) != 0) {
      return errno;
    }
    const int one = 1;
    setsockopt(connection_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 0;
  }

  Block run(std::uint32_t count) {
    Block block;
    if (mode_ != Mode::kBulk) {
      Block ignored;
      for (std::uint32_t i = 0; i < kWarmUp; ++i) once(ignored);
    }
    const base::TimePoint start = base::steady_now();
    for (std::uint32_t i = 0; i < count; ++i) once(block);
    if (mode_ == Mode::kConnect) await_server(block);
    if (mode_ == Mode::kBulk && block.failed == 0) await_count(block);
    block.elapsed_ns = (base::steady_now() - start).count();
    return block;
  }

 private:
  void note_failure(Block& block) {
    ++block.failed;
    block.last_errno = errno;
  }

  void once(Block& block) {
    ++block.done;
    switch (mode_) {
      case Mode::kBare:
      case Mode::kConnect:
      case Mode::kExchange:
        return connect_once(block, mode_ == Mode::kExchange);
      case Mode::kRequest:
        if (!round_trip(connection_.get(), buffer_.data(), kRequestBytes)) note_failure(block);
        return;
      case Mode::kBulk:
        for (std::size_t sent = 0; sent < kBulkWriteBytes;) {
          const ssize_t wrote = send(connection_.get(), buffer_.data(), kBulkWriteBytes - sent, MSG_NOSIGNAL);
          if (wrote < 0) return note_failure(block);
          sent += static_cast<std::size_t>(wrote);
        }
        return;
    }
  }

  /// The server shares our CPU, and has its turn when we wait: without this its work would fall between the blocks.
  void await_server(Block& block) {
    constexpr int kListeners = 3;  // each has a queue of its own; the same number for each target
    for (int i = 0; i < kListeners; ++i) connect_once(block, true);
  }

  void connect_once(Block& block, bool exchange) {
    const Peer& peer = peers_[next_++ % peers_.size()];
    const int fd = socket(peer.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return note_failure(block);
    if (mode_ != Mode::kConnect) {
      constexpr linger kReset{.l_onoff = 1, .l_linger = 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset);
    }
    bool good = connect(fd, reinterpret_cast<const sockaddr*>(&peer.storage), peer.length) == 0;
    if (good && getpeername_) {
      sockaddr_storage answer{};
      socklen_t length = sizeof answer;
      good = ::getpeername(fd, reinterpret_cast<sockaddr*>(&answer), &length) == 0;
    }
    if (good && exchange) good = round_trip(fd, buffer_.data(), 1);
    if (!good) note_failure(block);
    close(fd);
  }

  /// The sink answers one byte when it has counted a block.
  void await_count(Block& block) {
    if (recv(connection_.get(), buffer_.data(), 1, 0) != 1) note_failure(block);
  }

  Mode mode_;
  bool getpeername_;
  std::vector<Peer> peers_;
  std::size_t next_ = 0;
  base::Fd connection_;
  std::array<std::byte, kBulkWriteBytes> buffer_{};
};

Result<void> enter_cgroup(const std::string& folder) {
  if (folder.empty()) return {};
  const std::string path = folder + "/cgroup.procs";
  const base::Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), "0", 1) != 1) return fail_errno(errno, fmt::format("join cgroup {}", folder));
  return {};
}

Result<void> become(const TargetSpec& spec, int cpu) {
  // The cgroup first: the path may not be visible from the other namespace's mounts.
  MESH_CHECK(enter_cgroup(spec.cgroup));
  MESH_CHECK(enter_netns(spec.netns));
  return pin_to_cpu(cpu);
}

[[noreturn]] void serve(const TargetSpec& spec, Mode mode, int cpu, int channel) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::int32_t ready = 0;
  Worker worker(spec, mode);
  if (const Result<void> moved = become(spec, cpu); !moved) {
    fmt::print(stderr, "{}: {}\n", spec.name, moved.error().to_string());
    ready = moved.error().errnum != 0 ? moved.error().errnum : EINVAL;
  } else {
    ready = worker.prepare();
  }
  bool alive = write(channel, &ready, sizeof ready) == sizeof ready && ready == 0;
  std::uint32_t count = 0;
  while (alive && read(channel, &count, sizeof count) == sizeof count) {
    const Block block = worker.run(count);
    alive = write(channel, &block, sizeof block) == sizeof block;
  }
  _exit(0);
}

}  // namespace

Result<Mode> mode_from(std::string_view text) {
  if (text == "bare") return Mode::kBare;
  if (text == "connect") return Mode::kConnect;
  if (text == "exchange") return Mode::kExchange;
  if (text == "request") return Mode::kRequest;
  if (text == "bulk") return Mode::kBulk;
  return fail(ErrorKind::kInvalid, fmt::format("mode '{}': unknown", text),
              "use bare, connect, exchange, request or bulk");
}

Result<TargetSpec> TargetSpec::parse(std::string_view text) {
  TargetSpec spec;
  const std::string whole(text);
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    std::string_view value = equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1);
    if (key == "name") {
      spec.name = value;
    } else if (key == "netns") {
      spec.netns = value;
    } else if (key == "cgroup") {
      spec.cgroup = value;
    } else if (key == "baseline") {
      spec.baseline = value;
    } else if (key == "getpeername") {
      spec.getpeername = value == "1";
    } else if (key == "settle_ms") {
      spec.settle_ms = static_cast<unsigned>(std::strtoul(std::string(value).c_str(), nullptr, 10));
    } else if (key == "to") {
      while (!value.empty()) {
        const std::string_view one = value.substr(0, value.find('+'));
        value.remove_prefix(std::min(value.size(), one.size() + 1));
        spec.to.push_back(MESH_TRY(base::SocketAddress::parse(one)));
      }
    } else {
      return fail(ErrorKind::kInvalid, fmt::format("target '{}': unknown key '{}'", whole, key));
    }
  }
  if (spec.name.empty() || spec.to.empty()) {
    return fail(ErrorKind::kInvalid, fmt::format("target '{}': needs name= and to=", whole));
  }
  return spec;
}

Result<void> pin_to_cpu(int cpu) {
  if (cpu < 0) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) return fail_errno(errno, fmt::format("pin to CPU {}", cpu));
  return {};
}

Result<void> enter_netns(const std::string& path) {
  if (path.empty()) return {};
  const base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || setns(fd.get(), CLONE_NEWNET) != 0) {
    return fail_errno(errno, fmt::format("enter network namespace {}", path));
  }
  return {};
}

Result<Target> Target::start(const TargetSpec& spec, Mode mode, int cpu) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_errno(errno, "make a socket pair");
  }
  base::Fd ours(ends[0]);
  base::Fd theirs(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "fork");
  if (pid == 0) {
    ours.reset();
    serve(spec, mode, cpu, theirs.get());
  }
  theirs.reset();
  Target target(spec, pid, std::move(ours));
  std::int32_t ready = -1;
  if (read(target.channel_.get(), &ready, sizeof ready) != sizeof ready || ready != 0) {
    return fail_errno(ready > 0 ? ready : ECHILD, fmt::format("start {}: reach {}", spec.name, spec.to[0].to_string()));
  }
  return target;
}

Target::Target(Target&& other) noexcept
    : spec_(std::move(other.spec_)), pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

Target::~Target() {
  if (pid_ <= 0) return;
  channel_.reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Result<Block> Target::run(std::uint32_t count) {
  Block block;
  if (write(channel_.get(), &count, sizeof count) != sizeof count ||
      read(channel_.get(), &block, sizeof block) != sizeof block) {
    return fail_errno(errno != 0 ? errno : ECHILD, fmt::format("run a block of {}", spec_.name));
  }
  return block;
}

}  // namespace mesh::bench
