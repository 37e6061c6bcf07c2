// SPDX-License-Identifier: Apache-2.0
// Request latency of short connections through services that are balanced differently, over like backends: connect, one
// byte there, an answer when the backend has served it, close. All services run at the same time, each with backends of
// its own, and each with its own Poisson arrivals (an open loop: a slow answer delays no later request, and latency is
// counted from the instant at which the request was due) or with clients that connect again at once.
//
// A backend has workers and exponential service times, waits without burning CPU, refuses, or never answers.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <deque>
#include <fstream>
#include <functional>
#include <queue>
#include <unordered_map>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/random.hpp"
#include "tests/bench/target.hpp"

namespace mesh::bench {
namespace {

using base::Result;

constexpr int kBacklog = 4096;
constexpr double kConnectTimeoutS = 1;
constexpr double kSampleS = 0.1;
constexpr unsigned kBackendsMax = 1024;

double now_s() { return std::chrono::duration<double>(base::steady_now().time_since_epoch()).count(); }
double exponential(base::Random& random, double mean) { return -mean * std::log(1 - random.uniform()); }

/// "A:P/MEAN_MS/WORKERS[/refuse|/hole]"
struct BackendSpec {
  enum class Does : std::uint8_t { kServe, kRefuse, kHole } does = Does::kServe;
  base::SocketAddress at;
  double mean_s = 0;
  unsigned workers = 1;
};

/// "NAME=FRONTEND=BACKEND+BACKEND..."
struct ServiceSpec {
  std::string name;
  base::SocketAddress frontend;
  std::vector<BackendSpec> backends;
};

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end = text.find(by); end != std::string::npos; begin = end + 1, end = text.find(by, begin)) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

Result<ServiceSpec> parse_service(const std::string& text) {
  const auto parts = split(text, '=');
  if (parts.size() != 3)
    return base::fail(base::ErrorKind::kInvalid, "service '" + text + "'", "NAME=FRONTEND=BACKENDS");
  ServiceSpec spec{.name = parts[0], .frontend = MESH_TRY(base::SocketAddress::parse(parts[1])), .backends = {}};
  for (const std::string& one : split(parts[2], '+')) {
    const auto fields = split(one, '/');
    if (fields.size() < 3) return base::fail(base::ErrorKind::kInvalid, "backend '" + one + "'", "A:P/MEAN_MS/WORKERS");
    BackendSpec backend;
    backend.at = MESH_TRY(base::SocketAddress::parse(fields[0]));
    backend.mean_s = std::stod(fields[1]) / 1000;
    backend.workers = static_cast<unsigned>(std::stoul(fields[2]));
    if (fields.size() > 3) backend.does = fields[3] == "refuse" ? BackendSpec::Does::kRefuse : BackendSpec::Does::kHole;
    spec.backends.push_back(backend);
  }
  return spec;
}

/// What the servers tell the client while they run.
struct Board {
  struct Cell {
    std::atomic<std::uint32_t> open;  ///< Connections accepted and not closed.
    std::atomic<std::uint64_t> served;
  } cells[kBackendsMax];
};

base::Fd listen_at(const base::SocketAddress& at, int backlog) {
  sockaddr_storage storage{};
  const socklen_t length = at.to_sockaddr(storage);
  base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 || ::listen(fd.get(), backlog) != 0) {
    fmt::print(stderr, "listen at {}: {}\n", at.to_string(), ::strerrordesc_np(errno));
    std::exit(1);
  }
  return fd;
}

base::Fd start_connect(const base::SocketAddress& to, int& error) {
  sockaddr_storage storage{};
  const socklen_t length = to.to_sockaddr(storage);
  base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  error = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0 ? 0 : errno;
  return fd;
}

void watch(int epoll, int fd, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{.events = events, .data = {.u64 = tag}};
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    event.data.u64 = tag;
    ::epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
  }
}

timespec wait_until(double at_s) {
  const double left = std::max(0.0, at_s - now_s());
  const auto seconds = static_cast<time_t>(left);
  return {.tv_sec = seconds, .tv_nsec = static_cast<long>((left - static_cast<double>(seconds)) * 1e9)};
}

/// All backends of all services, in a process of their own.
class Servers {
 public:
  Servers(const std::vector<ServiceSpec>& services, Board& board, std::uint64_t seed)
      : board_(board), random_(seed), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (const ServiceSpec& service : services) {
      for (const BackendSpec& spec : service.backends) add(spec);
    }
  }

  [[noreturn]] void run() {
    std::vector<epoll_event> events(512);
    while (true) {
      timespec wait = done_.empty() ? timespec{.tv_sec = 1, .tv_nsec = 0} : wait_until(done_.top().at_s);
      const int ready = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &wait, nullptr);
      for (int i = 0; i < ready; ++i) handle(events[static_cast<std::size_t>(i)].data.u64);
      const double now = now_s();
      while (!done_.empty() && done_.top().at_s <= now) {
        const Done one = done_.top();
        done_.pop();
        finish(one.backend, one.fd);
      }
    }
  }

 private:
  struct Backend {
    BackendSpec spec;
    base::Fd listener;
    unsigned busy = 0;
    std::deque<int> waiting;
  };
  struct Done {
    double at_s;
    std::size_t backend;
    int fd;
    bool operator>(const Done& other) const { return at_s > other.at_s; }
  };

  void add(const BackendSpec& spec) {
    const std::size_t index = backends_.size();
    backends_.push_back({.spec = spec, .listener = {}, .busy = 0, .waiting = {}});
    if (spec.does == BackendSpec::Does::kRefuse) return;
    const bool hole = spec.does == BackendSpec::Does::kHole;
    backends_[index].listener = listen_at(spec.at, hole ? 0 : kBacklog);
    // Nobody accepts, and its queue is full: what comes now gets no answer.
    for (int i = 0; hole && i < 2; ++i) {
      int error = 0;
      fill_.push_back(start_connect(spec.at, error));
    }
    if (!hole) watch(epoll_.get(), backends_[index].listener.get(), EPOLLIN, index << 32);
  }

  void handle(std::uint64_t tag) {
    const std::size_t index = tag >> 32;
    const int fd = static_cast<int>(tag & 0xffffffff);
    if (fd != 0) {
      request(index, fd);
      return;
    }
    for (int accepted = 0; accepted >= 0;) {
      accepted = ::accept4(backends_[index].listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (accepted < 0) break;
      board_.cells[index].open.fetch_add(1, std::memory_order_relaxed);
      watch(epoll_.get(), accepted, EPOLLIN, index << 32 | static_cast<std::uint32_t>(accepted));
    }
  }

  void request(std::size_t index, int fd) {
    char byte = 0;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    if (::read(fd, &byte, 1) != 1) {
      close_connection(index, fd);
      return;
    }
    Backend& backend = backends_[index];
    if (backend.busy < backend.spec.workers) {
      ++backend.busy;
      done_.push({now_s() + exponential(random_, backend.spec.mean_s), index, fd});
    } else {
      backend.waiting.push_back(fd);
    }
  }

  void finish(std::size_t index, int fd) {
    [[maybe_unused]] const ssize_t written = ::write(fd, "x", 1);
    close_connection(index, fd);
    board_.cells[index].served.fetch_add(1, std::memory_order_relaxed);
    Backend& backend = backends_[index];
    if (backend.waiting.empty()) {
      --backend.busy;
      return;
    }
    done_.push({now_s() + exponential(random_, backend.spec.mean_s), index, backend.waiting.front()});
    backend.waiting.pop_front();
  }

  void close_connection(std::size_t index, int fd) {
    ::close(fd);
    board_.cells[index].open.fetch_sub(1, std::memory_order_relaxed);
  }

  Board& board_;
  base::Random random_;
  base::Fd epoll_;
  std::vector<Backend> backends_;
  std::vector<base::Fd> fill_;
  std::priority_queue<Done, std::vector<Done>, std::greater<>> done_;
};

struct Load {
  double per_second = 0;  ///< Of each service; 0: a closed loop.
  unsigned clients = 0;   ///< Of each service, in a closed loop.
  double seconds = 10;
  double warm_up_s = 2;
};

class Clients {
 public:
  Clients(const std::vector<ServiceSpec>& services, const Load& load, const Board& board, std::uint64_t seed)
      : load_(load), board_(board), random_(seed), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (const ServiceSpec& spec : services) services_.push_back({.spec = spec, .latencies = {}, .next_s = 0});
  }

  void run() {
    begin_s_ = now_s();
    const double end_s = begin_s_ + load_.seconds;
    for (std::size_t i = 0; i < services_.size(); ++i) {
      services_[i].next_s = begin_s_ + next_gap();
      for (unsigned client = 0; client < load_.clients; ++client) connect(i, begin_s_);
    }
    double sample_s = begin_s_ + load_.warm_up_s;
    std::vector<epoll_event> events(512);
    while (now_s() < end_s) {
      double due_s = std::min(end_s, sample_s);
      for (Service& service : services_) {
        if (load_.clients == 0) due_s = std::min(due_s, service.next_s);
      }
      if (!started_.empty()) due_s = std::min(due_s, started_.front().second + kConnectTimeoutS);
      timespec wait = wait_until(due_s);
      const int ready = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &wait, nullptr);
      for (int i = 0; i < ready; ++i) handle(events[static_cast<std::size_t>(i)]);
      const double now = now_s();
      for (std::size_t i = 0; load_.clients == 0 && i < services_.size(); ++i) {
        for (; services_[i].next_s <= now; services_[i].next_s += next_gap()) connect(i, services_[i].next_s);
      }
      give_up(now);
      if (now >= sample_s) {
        sample();
        sample_s += kSampleS;
      }
    }
    // What is still waited for took at least so long: leaving it out would hide the worst.
    for (const auto& [fd, one] : connections_) {
      if (one.due_s >= begin_s_ + load_.warm_up_s) services_[one.service].latencies.push_back(end_s - one.due_s);
    }
  }

  [[nodiscard]] std::string report() const {
    std::string text;
    std::size_t first = 0;
    for (const Service& service : services_) {
      std::vector<double> sorted = service.latencies;
      std::ranges::sort(sorted);
      const auto quantile_ms = [&](double q) {
        return sorted.empty() ? 0 : sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size()))] * 1000;
      };
      std::string served;
      for (std::size_t i = 0; i < service.spec.backends.size(); ++i) {
        served += fmt::format("{}{}", i == 0 ? "" : ",", board_.cells[first + i].served.load());
      }
      text += fmt::format(
          R"({}{{"name":"{}","answered":{},"failed":{},"p50_ms":{:.3f},"p90_ms":{:.3f},"p99_ms":{:.3f},"swing":{:.3f},"served":[{}]}})",
          text.empty() ? "" : ",", service.spec.name, sorted.size(), service.failed, quantile_ms(0.5), quantile_ms(0.9),
          quantile_ms(0.99), swing(first, service.spec.backends.size()), served);
      first += service.spec.backends.size();
    }
    return fmt::format("{{\"services\":[{}]}}\n", text);
  }

 private:
  struct Service {
    ServiceSpec spec;
    std::vector<double> latencies;  ///< Seconds.
    std::uint64_t failed = 0;
    double next_s = 0;
  };
  struct Connection {
    base::Fd fd;
    std::size_t service = 0;
    double due_s = 0;
    bool established = false;
  };

  double next_gap() { return load_.per_second > 0 ? exponential(random_, 1 / load_.per_second) : load_.seconds; }

  void connect(std::size_t service, double due_s) {
    int error = 0;
    base::Fd fd = start_connect(services_[service].spec.frontend, error);
    const int number = fd.get();
    if (error != 0 && error != EINPROGRESS) {
      ended(service, due_s, true);
      return;
    }
    watch(epoll_.get(), number, EPOLLOUT, static_cast<std::uint64_t>(number));
    connections_[number] = {std::move(fd), service, due_s, false};
    started_.emplace_back(number, now_s());
  }

  void handle(const epoll_event& event) {
    const int fd = static_cast<int>(event.data.u64);
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    Connection& one = found->second;
    char byte = 'x';
    if (!one.established) {
      int error = 0;
      socklen_t length = sizeof(error);
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0 || ::write(fd, &byte, 1) != 1) {
        end(found, true);
        return;
      }
      one.established = true;
      watch(epoll_.get(), fd, EPOLLIN, static_cast<std::uint64_t>(fd));
      return;
    }
    end(found, ::read(fd, &byte, 1) != 1);
  }

  void end(std::unordered_map<int, Connection>::iterator found, bool failed) {
    const std::size_t service = found->second.service;
    const double due_s = found->second.due_s;
    connections_.erase(found);  // closes
    ended(service, due_s, failed);
  }

  void ended(std::size_t service, double due_s, bool failed) {
    if (due_s >= begin_s_ + load_.warm_up_s) {
      if (failed) {
        ++services_[service].failed;
      } else {
        services_[service].latencies.push_back(now_s() - due_s);
      }
    }
    if (load_.clients > 0) connect(service, now_s());
  }

  void give_up(double now) {
    for (; !started_.empty() && started_.front().second + kConnectTimeoutS <= now; started_.pop_front()) {
      const auto found = connections_.find(started_.front().first);
      if (found == connections_.end() || found->second.established || found->second.due_s + kConnectTimeoutS > now) {
        continue;
      }
      end(found, true);
    }
  }

  void sample() {
    std::vector<double> row;
    for (const Service& service : services_) {
      for (std::size_t i = 0; i < service.spec.backends.size(); ++i) {
        row.push_back(board_.cells[row.size()].open.load(std::memory_order_relaxed));
      }
    }
    samples_.push_back(std::move(row));
  }

  /// The largest standard deviation of a backend's open connections over the run, relative to its mean; of backends
  /// with at least one on average. 0.5: a backend that has 20 is at 10 to 30 two thirds of the time.
  [[nodiscard]] double swing(std::size_t first, std::size_t count) const {
    double worst = 0;
    const auto rows = static_cast<double>(samples_.size());
    for (std::size_t i = first; i < first + count; ++i) {
      double sum = 0;
      double squares = 0;
      for (const auto& row : samples_) {
        sum += row[i];
        squares += row[i] * row[i];
      }
      const double mean = sum / rows;
      if (mean >= 1) worst = std::max(worst, std::sqrt(std::max(0.0, squares / rows - mean * mean)) / mean);
    }
    return worst;
  }

  const Load load_;
  const Board& board_;
  base::Random random_;
  base::Fd epoll_;
  std::vector<Service> services_;
  std::unordered_map<int, Connection> connections_;
  std::deque<std::pair<int, double>> started_;
  std::vector<std::vector<double>> samples_;
  double begin_s_ = 0;
};

int run_tail(int argc, char** argv) {
  CLI::App app("Request latency of short connections through differently balanced services");
  std::string netns;
  std::string cgroup;
  std::vector<std::string> texts;
  Load load;
  std::uint64_t seed = 1;
  app.add_option("--netns", netns, "network namespace of servers and clients");
  app.add_option("--cgroup", cgroup, "folder of the clients' cgroup");
  app.add_option("--service", texts, "NAME=FRONTEND=A:P/MEAN_MS/WORKERS[/refuse|/hole]+...")->required();
  app.add_option("--rate", load.per_second, "requests per second of each service");
  app.add_option("--clients", load.clients, "clients of each service, in place of --rate");
  app.add_option("--seconds", load.seconds, "how long")->capture_default_str();
  app.add_option("--warm-up", load.warm_up_s, "of them not counted")->capture_default_str();
  app.add_option("--seed", seed, "of arrivals and service times")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::vector<ServiceSpec> services;
  std::size_t backends = 0;
  for (const std::string& text : texts) {
    auto spec = parse_service(text);
    if (!spec) {
      fmt::print(stderr, "{}\n", spec.error().to_string());
      return 2;
    }
    backends += spec->backends.size();
    services.push_back(std::move(*spec));
  }
  if (backends > kBackendsMax || (load.per_second <= 0) == (load.clients == 0)) {
    fmt::print(stderr, "at most {} backends; either --rate or --clients\n", kBackendsMax);
    return 2;
  }
  if (const auto entered = enter_netns(netns); !entered) {
    fmt::print(stderr, "{}\n", entered.error().to_string());
    return 1;
  }
  rlimit files{.rlim_cur = 65536, .rlim_max = 65536};
  ::setrlimit(RLIMIT_NOFILE, &files);
  void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  auto& board = *new (memory) Board{};
  int ready[2];
  if (::pipe(ready) != 0) return 1;
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Servers servers(services, board, seed + 1);
    [[maybe_unused]] const ssize_t told = ::write(ready[1], "r", 1);
    servers.run();
  }
  ::close(ready[1]);
  char byte = 0;
  const bool listening = ::read(ready[0], &byte, 1) == 1;
  if (!cgroup.empty()) std::ofstream(cgroup + "/cgroup.procs") << 0;
  Clients clients(services, load, board, seed);
  if (listening) clients.run();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (!listening) return 1;
  fmt::print("{}", clients.report());
  return 0;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) { return mesh::bench::run_tail(argc, argv); }
