// SPDX-License-Identifier: Apache-2.0
#include "tests/support/books_trial.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <thread>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "base/random.hpp"
#include "tests/support/agent.hpp"
#include "tests/support/identify_server.hpp"
#include "tests/support/shared_memory.hpp"

namespace mesh::test {
namespace {

using std::chrono::milliseconds;

constexpr int kOpenAtOnce = 200;  // sockets that a client keeps
constexpr auto kQuiet = milliseconds(300);

const base::SocketAddress kTcp = *base::SocketAddress::parse("240.64.0.10:80");
const base::SocketAddress kUdp = *base::SocketAddress::parse("240.64.0.10:53");
const base::SocketAddress kOtherUdp = *base::SocketAddress::parse("240.64.0.11:53");
const base::SocketAddress kRefused = *base::SocketAddress::parse("240.64.0.12:80");
const base::SocketAddress kV6 = *base::SocketAddress::parse("[fd6d:6573:6864::10]:80");

struct Shared {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> connections{0};
};

/// One process of the storm: does something random with sockets, again and again.
class StormClient {
 public:
  StormClient(Shared& shared, std::uint64_t seed) : shared_(shared), random_(seed) {}

  int run() {
    while (!shared_.stop) step();
    return 0;
  }

 private:
  void step() {
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2:
        keep(connected(kTcp, SOCK_STREAM));
        return;
      case 3:
        keep(connected(kV6, SOCK_STREAM));
        return;
      case 4:
        reset(connected(kTcp, SOCK_STREAM));
        return;
      case 5:
        retry_refused();
        return;
      case 6:
        wander();
        return;
      case 7:
        connected(kTcp, SOCK_STREAM | SOCK_NONBLOCK);  // closed before it can be answered
        return;
      case 8:
        leave_to_child();
        return;
      default:
        if (!kept_.empty()) kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(random_.below(kept_.size())));
    }
  }

  base::Fd connected(const base::SocketAddress& to, int type) {
    sockaddr_storage storage{};
    const socklen_t length = to.to_sockaddr(storage);
    base::Fd fd(::socket(storage.ss_family, type | SOCK_CLOEXEC, 0));
    connect(fd, storage, length);
    return fd;
  }
  void connect(const base::Fd& fd, const sockaddr_storage& storage, socklen_t length) {
    ++shared_.connections;
    ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length);
  }
  void keep(base::Fd fd) {
    if (kept_.size() >= kOpenAtOnce) kept_.clear();
    kept_.push_back(std::move(fd));
  }
  static void reset(const base::Fd& fd) {
    const linger now{1, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  }
  void retry_refused() {
    const base::Fd fd = connected(kRefused, SOCK_STREAM);
    sockaddr_storage storage{};
    const socklen_t length = kRefused.to_sockaddr(storage);
    connect(fd, storage, length);
  }
  /// A UDP socket that goes from service to service and to none.
  void wander() {
    base::Fd fd = connected(kUdp, SOCK_DGRAM);
    sockaddr_storage storage{};
    const socklen_t length = kOtherUdp.to_sockaddr(storage);
    if (random_.below(2) == 0) {
      sockaddr nowhere{};
      nowhere.sa_family = AF_UNSPEC;
      ::connect(fd.get(), &nowhere, sizeof(nowhere));
    }
    connect(fd, storage, length);
    if (random_.below(2) == 0) keep(std::move(fd));
  }
  /// The child inherits all sockets; it is killed with them, or outlives its parent's copies for a moment.
  void leave_to_child() {
    if (random_.below(8) != 0) return;
    keep(connected(kTcp, SOCK_STREAM));
    const pid_t child = ::fork();
    if (child == 0) {
      ::usleep(static_cast<useconds_t>(random_.below(20'000)));
      ::raise(SIGKILL);
    }
    kept_.clear();
    if (child > 0) ::waitpid(child, nullptr, 0);
  }

  Shared& shared_;
  base::Random random_;
  std::vector<base::Fd> kept_;
};

/// web1 is always there; web2 comes and goes, and which services there are around it.
std::string body(const Host& web1, const Host& web2, base::Random& random) {
  std::string text = "services:\n";
  const auto service = [&](const char* name, const char* address, const char* protocol, const char* balance,
                           const std::string& one, const std::string& two) {
    text += fmt::format("  - {{name: {}, address: \"{}\", protocol: {}, balance: {}, ejection: off, endpoints: [", name,
                        address, protocol, balance);
    text += fmt::format("{{address: \"{}\"}}", one);
    if (random.below(2) == 0) text += fmt::format(", {{address: \"{}\"}}", two);
    text += "]}\n";
  };
  service("tcp", "240.64.0.10:80", "tcp", "least_connections", web1.v4(7000), web2.v4(7000));
  service("udp", "240.64.0.10:53", "udp", "round_robin", web1.v4(7000), web2.v4(7000));
  service("other", "240.64.0.11:53", "udp", "maglev", web1.v4(7000), web2.v4(7000));
  service("refused", "240.64.0.12:80", "tcp", "latency", web1.v4(1), web2.v4(1));
  service("v6", "[fd6d:6573:6864::10]:80", "tcp", "weighted_random", web1.v6(7000), web2.v6(7000));
  return text;
}

void check_books(Agent& agent, BooksReport& report) {
  const Json dump = agent.dump();
  report.records = dump.at("owners").size();
  for (const Json& row : dump.at("owners")) {
    report.faults.push_back(fmt::format("record left: {} -> {}", row.at("frontend").get<std::string>(),
                                        row.at("backend").get<std::string>()));
  }
  for (const Json& row : dump.at("backends")) {
    const auto opened = row.at("opened").get<std::uint64_t>();
    const auto closed = row.at("closed").get<std::uint64_t>();
    report.opened += opened;
    if (opened == closed) continue;
    report.faults.push_back(
        fmt::format("{}: opened {}, closed {}", row.at("address").get<std::string>(), opened, closed));
  }
}

}  // namespace

BooksReport run_books_trial(const BooksOptions& options) {
  base::Random random(options.seed);
  BooksReport report;
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web1 = lab.add_host("web1");
  Host& web2 = lab.add_host("web2");
  IdentifyServer server1(lab, web1);
  IdentifyServer server2(lab, web2);
  Agent agent(lab, node, {.body = body(web1, web2, random)});
  agent.start_healthy();

  const auto shared = make_shared_memory<Shared>();
  std::vector<Process> storm;
  for (int i = 0; i < options.clients; ++i) {
    storm.push_back(Process::start(lab.on(node, "apps"),
                                   [&shared, seed = random.next()] { return StormClient(*shared, seed).run(); }));
  }
  for (int kill = 1; kill <= options.kills; ++kill) {
    agent.reconfigure(body(web1, web2, random));
    std::this_thread::sleep_for(milliseconds(random.below(500)));
    agent.kill();
    std::this_thread::sleep_for(milliseconds(random.below(100)));
    agent.start();
    if (options.progress) options.progress(kill, fmt::format("{} connections", shared->connections.load()));
  }
  if (!agent.await_healthy()) report.faults.push_back("the agent does not become healthy again: " + agent.log());
  // Half of the storm ends by itself, half is killed: its sockets are closed by the kernel.
  for (std::size_t i = 0; i < storm.size() / 2; ++i) storm[i].kill();
  shared->stop = true;
  storm.clear();
  std::this_thread::sleep_for(kQuiet);
  report.connections = shared->connections;
  check_books(agent, report);
  return report;
}

}  // namespace mesh::test
