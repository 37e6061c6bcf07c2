// SPDX-License-Identifier: Apache-2.0
// What probing costs: 10,000 endpoints once a second, over TCP and kept-alive HTTP, and a slower pace of HTTPS and
// gRPC.
//
// The prober runs in this process, a minimal server in another. User and system time come from getrusage(2), so a busy
// machine disturbs them less than wall time. Loopback makes the sender pay for the receiver's network stack too: "all
// CPU caused" is this process's; the server's own share is reported beside it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "health/prober.hpp"

namespace {

using namespace mesh;
using namespace std::chrono_literals;
using model::ProbeType;

constexpr std::string_view kHttpReply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

void append_frame(std::string& out, std::uint8_t type, std::uint8_t flags, std::uint8_t stream,
                  std::string_view payload) {
  out += {0, 0, static_cast<char>(payload.size()), static_cast<char>(type), static_cast<char>(flags), 0,
          0, 0, static_cast<char>(stream)};
  out += payload;
}

/// What a gRPC server says to Health/Check, canned: SETTINGS and its ACK, headers, SERVING, trailers.
std::string grpc_reply() {
  std::string out;
  append_frame(out, 4, 0, 0, "");
  append_frame(out, 4, 1, 0, "");
  append_frame(out, 1, 4, 1,
               "\x88\x5f\x10"
               "application/grpc");
  append_frame(out, 0, 0, 1, std::string_view("\0\0\0\0\2\x08\x01", 7));
  append_frame(out, 1, 5, 1,
               std::string_view("\0\x0bgrpc-status\x01"
                                "0",
                                15));
  return out;
}

/// Accepts on `listener`; answers whatever comes with `reply`, or, if that is empty, closes at once.
[[noreturn]] void serve(int listener, std::string_view reply) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int epoll = ::epoll_create1(0);
  const auto watch = [epoll](int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener);
  while (true) {
    std::array<epoll_event, 512> events;
    const int count = ::epoll_wait(epoll, events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener) {
        for (int accepted = 0; (accepted = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
          if (reply.empty()) {
            ::close(accepted);
          } else {
            watch(accepted);
          }
        }
        continue;
      }
      std::array<char, 4096> request;
      if (::recv(fd, request.data(), request.size(), 0) > 0) {
        ::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
      } else {
        ::close(fd);
      }
    }
  }
}

struct Server {
  pid_t pid = -1;
  std::uint16_t port = 0;
  Server() = default;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  [[nodiscard]] base::Duration cpu() const {
    const auto text = base::read_file("/proc/" + std::to_string(pid) + "/schedstat", 4096);
    return base::Duration(text ? std::strtoll(text->c_str(), nullptr, 10) : 0);
  }
};

int listen_anywhere(std::uint16_t& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in any{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {INADDR_ANY}};
  socklen_t length = sizeof(any);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&any), length) != 0 || ::listen(fd, 4096) != 0) std::abort();
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&any), &length);
  port = ntohs(any.sin_port);
  return fd;
}

void start_server(Server& server, const std::string& reply) {
  const int listener = listen_anywhere(server.port);
  server.pid = ::fork();
  if (server.pid == 0) serve(listener, reply);
  ::close(listener);
}

/// openssl s_server with a certificate of its own in `folder`.
bool start_tls_server(Server& server, const std::filesystem::path& folder) {
  const std::string make = "cd '" + folder.string() +
                           "' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem "
                           "-out c.pem -subj /CN=bench -days 1 -addext subjectAltName=DNS:bench >/dev/null 2>&1";
  if (std::system(make.c_str()) != 0) return false;
  ::close(listen_anywhere(server.port));
  server.pid = ::fork();
  if (server.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
    const std::string port = std::to_string(server.port);
    const std::string key = folder / "k.pem";
    const std::string certificate = folder / "c.pem";
    ::execlp("openssl", "openssl", "s_server", "-4", "-accept", port.c_str(), "-www", "-key", key.c_str(), "-cert",
             certificate.c_str(), nullptr);
    ::_exit(127);
  }
  std::this_thread::sleep_for(500ms);
  return true;
}

struct Cpu {
  base::Duration user{}, system{};
};

Cpu own_cpu() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return {of(usage.ru_utime), of(usage.ru_stime)};
}

struct Load {
  std::string name;
  model::ProbePolicy policy;
  unsigned endpoints;
};

struct Measured {
  double user_percent = 0, caused_percent = 0, server_percent = 0, per_second = 0, failed = 0;
  double lateness_ms = 0, longest_step_ms = 0;
  std::string loop;
};

model::SnapshotPtr snapshot_of(const Load& load, std::uint16_t port) {
  const auto policy = std::make_shared<model::ProbePolicy>(load.policy);
  auto snapshot = std::make_shared<model::Snapshot>();
  constexpr unsigned kPerService = 10;
  for (unsigned from = 0; from < load.endpoints; from += kPerService) {
    auto service = std::make_shared<model::Service>();
    service->frontend.address = {.ip = *base::IpAddress::parse("240.0.0.1"),
                                 .port = static_cast<std::uint16_t>(1 + from / kPerService)};
    service->probe = policy;
    for (unsigned i = from; i < std::min(from + kPerService, load.endpoints); ++i) {
      const auto ip = base::IpAddress::parse("127.1." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250));
      service->endpoints.push_back({.address = {.ip = *ip, .port = port}});
    }
    snapshot->services.push_back(std::move(service));
  }
  return snapshot;
}

Measured measure(const Load& load, const Server& server, io::LoopKind loop, base::Duration duration) {
  health::Prober prober({.loop = loop, .max_probes_per_second = 50000, .node_seed = 1, .version = "bench"});
  if (const auto started = prober.start([](const health::HealthBatch&) {}); !started) {
    std::cerr << started.error().to_string() << '\n';
    std::exit(1);
  }
  prober.set_services(snapshot_of(load, server.port));
  std::this_thread::sleep_for(2500ms);  // first checks are over, phases are spread
  const auto type = static_cast<std::size_t>(load.policy.type);
  const auto all_of = [&](const health::ProbeStats& stats) {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : stats.types[type].results) sum += count;
    return sum;
  };
  const auto ok_of = [&](const health::ProbeStats& stats) {
    return stats.types[type].results[static_cast<std::size_t>(model::ProbeReason::kOk)];
  };
  const health::ProbeStats before = prober.stats();
  const Cpu cpu_before = own_cpu();
  const auto server_before = server.cpu();
  const auto begun = base::steady_now();
  std::this_thread::sleep_for(duration);
  const health::ProbeStats after = prober.stats();
  const Cpu cpu_after = own_cpu();
  const auto server_after = server.cpu();
  const std::chrono::duration<double> took = base::steady_now() - begun;
  const auto percent = [&](base::Duration part) { return 100 * std::chrono::duration<double>(part) / took; };
  const double done = static_cast<double>(all_of(after) - all_of(before));
  return {.user_percent = percent(cpu_after.user - cpu_before.user),
          .caused_percent = percent(cpu_after.user - cpu_before.user + cpu_after.system - cpu_before.system),
          .server_percent = percent(server_after - server_before),
          .per_second = done / took.count(),
          .failed = done - static_cast<double>(ok_of(after) - ok_of(before)),
          .lateness_ms = std::chrono::duration<double, std::milli>(after.lateness_max).count(),
          .longest_step_ms = std::chrono::duration<double, std::milli>(after.longest_step).count(),
          .loop = after.loop};
}

nlohmann::json entry(const std::string& name, double figure, const std::string& unit) {
  return {{"name", name}, {"figure", figure}, {"unit", unit}};
}

nlohmann::json entry(const std::string& name, double figure, const std::string& unit, double at_most,
                     const std::string& note) {
  const std::string bound = nlohmann::json(at_most).dump();
  return {{"name", name},          {"figure", figure},         {"unit", unit},
          {"goal", "<= " + bound}, {"met", figure <= at_most}, {"note", note}};
}

}  // namespace

int main(int argc, char** argv) {
  bool quick = false;
  auto loop = io::LoopKind::kAutomatic;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--quick") quick = true;
    if (std::string_view(argv[i]) == "--epoll") loop = io::LoopKind::kEpoll;
  }
  const rlimit descriptors{.rlim_cur = 65536, .rlim_max = 65536};
  ::setrlimit(RLIMIT_NOFILE, &descriptors);
  const base::Duration duration = quick ? 3s : 10s;
  const model::ProbePolicy every_second{.interval = 1000ms, .timeout = 900ms, .jitter_percent = 0};
  nlohmann::json results = nlohmann::json::array();

  for (const ProbeType type : {ProbeType::kTcp, ProbeType::kHttp}) {
    Load load{std::string(model::to_string(type)), every_second, 10000};
    load.policy.type = type;
    Server server;
    start_server(server, type == ProbeType::kTcp ? "" : std::string(kHttpReply));
    const Measured m = measure(load, server, loop, duration);
    const std::string what = load.name + (type == ProbeType::kHttp ? " kept-alive" : "") + " 10,000/s: ";
    results.push_back(entry(what + "agent user CPU", m.user_percent, "% of a core", 5, m.loop));
    results.push_back(entry(what + "agent user + system CPU", m.caused_percent, "% of a core", 20, m.loop));
    results.push_back(entry(what + "server CPU", m.server_percent, "% of a core"));
    results.push_back(entry(what + "probes done", m.per_second, "1/s"));
    results.push_back(
        entry(what + "rate lost to drift", std::max(0.0, 1 - m.per_second / load.endpoints) * 100, "%", 0.1, ""));
    results.push_back(entry(what + "failed", m.failed, "probes", 0, ""));
    results.push_back(entry(what + "latest beginning", m.lateness_ms, "ms"));
    results.push_back(entry(what + "longest step", m.longest_step_ms, "ms", 5, ""));
  }
  for (const ProbeType type : {ProbeType::kHttps, ProbeType::kGrpc}) {
    Load load{std::string(model::to_string(type)), every_second, type == ProbeType::kHttps ? 200U : 2000U};
    load.policy.type = type;
    const auto folder = std::filesystem::temp_directory_path() / ("meshd-bench-" + std::to_string(::getpid()));
    Server server;
    if (type == ProbeType::kHttps) {
      std::filesystem::create_directories(folder);
      if (!start_tls_server(server, folder)) continue;
      load.policy.sni = "bench";
      load.policy.ca_file = folder / "c.pem";
    } else {
      start_server(server, grpc_reply());
    }
    const Measured m = measure(load, server, loop, duration / 2);
    const std::string what = load.name + " " + std::to_string(load.endpoints) + "/s: ";
    results.push_back(entry(what + "agent CPU per probe", m.caused_percent * 1e4 / m.per_second, "us"));
    results.push_back(entry(what + "failed", m.failed, "probes", 0, ""));
    std::filesystem::remove_all(folder);
  }
  std::cout << nlohmann::json{{"results", results}}.dump(2) << '\n';
  return 0;
}
