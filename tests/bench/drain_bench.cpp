// SPDX-License-Identifier: Apache-2.0
// What one pass costs that resets the connections to a backend: wall time and CPU, by the kernel's iterators and by
// sock_diag, with as many connections to another backend beside them that have to stay. Connections are real: TCP on
// the loopback of several network namespaces, each held by a process. Prints one JSON object.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "balance/route.hpp"
#include "datapath/grace.hpp"
#include "datapath/kill.hpp"
#include "datapath/loader.hpp"
#include "datapath/owners.hpp"
#include "datapath/writer.hpp"
#include "tests/support/sandbox.hpp"

namespace mesh::bench {
namespace {

constexpr const char* kDoomedVip = "240.0.0.1:80";
constexpr const char* kKeptVip = "240.0.0.2:80";
constexpr const char* kDoomed = "127.0.0.1:7001";
constexpr const char* kKept = "127.0.0.1:7002";
constexpr std::uint32_t kOwners = 65536;

[[noreturn]] void give_up(const std::string& doing) { throw std::runtime_error(doing + ": " + std::strerror(errno)); }

template <typename T>
T must(base::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().to_string());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

base::SocketAddress at(const char* text) { return must(base::SocketAddress::parse(text)); }

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Both ends of `count` connections through a service to a server of this namespace.
void connect_through(const char* vip, const char* server, unsigned count, std::vector<base::Fd>& open) {
  sockaddr_storage to{};
  sockaddr_storage here{};
  const socklen_t length = at(vip).to_sockaddr(to);
  at(server).to_sockaddr(here);
  const base::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&here), length) != 0 ||
      ::listen(listener.get(), 128) != 0) {
    give_up("listen");
  }
  for (unsigned i = 0; i < count; ++i) {
    open.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(open.back().get(), reinterpret_cast<const sockaddr*>(&to), length) != 0) give_up("connect");
    open.emplace_back(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!open.back().valid()) give_up("accept");
  }
}

/// A process in a namespace of its own that holds connections to both servers until it is gone.
class Holder {
 public:
  explicit Holder(unsigned connections) {
    std::array<int, 2> ready{};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) give_up("pipe");
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      hold(connections, ready[1]);
    }
    const base::Fd written(ready[1]);
    ready_.reset(ready[0]);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  void await() const {
    char byte = 0;
    if (::read(ready_.get(), &byte, 1) != 1) throw std::runtime_error("a process with connections did not come up");
  }

 private:
  [[noreturn]] static void hold(unsigned connections, int ready) {
    try {
      const test::NetNs netns;
      std::vector<base::Fd> open;
      connect_through(kDoomedVip, kDoomed, connections, open);
      connect_through(kKeptVip, kKept, connections, open);
      if (::write(ready, "", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "drain_bench: %s\n", error.what());
    }
    ::_exit(1);
  }

  pid_t child_ = -1;
  base::Fd ready_;
};

model::ServiceRoutePtr route(const char* vip, const char* server) {
  auto service = std::make_shared<model::Service>();
  service->name = vip;
  service->frontend = {at(vip), model::Protocol::kTcp};
  service->endpoints = {{.address = at(server)}};
  return balance::route_service(service, nullptr, nullptr);
}

class Bench {
 public:
  Bench()
      : mesh_(must(datapath::Datapath::open(
            {.directory = sandbox_.pins(),
             .cgroup_root = test::Cgroup::root(),
             .cgroups = {sandbox_.cgroup.path()},
             .sizes =
                 {.services = 64, .ranges = 128, .slots = 4096, .backends = 64, .owners = kOwners, .affinities = 64},
             .version = "bench"}))),
        writer_(must(datapath::Writer::open(mesh_->store(), must(datapath::make_grace()),
                                            [] { return std::unordered_set<std::uint32_t>(); }))) {
    auto table = std::make_shared<model::RoutingTable>();
    table->generation = 1;
    table->services = {route(kDoomedVip, kDoomed), route(kKeptVip, kKept)};
    must(writer_->apply(table));
  }
  ~Bench() {
    test::Cgroup::leave();
    if (const auto gone = mesh_->detach(); !gone) std::fprintf(stderr, "%s\n", gone.error().to_string().c_str());
  }

  struct Pass {
    std::size_t asked = 0;
    datapath::KillReport report;
    double wall_s = 0;
    double cpu_s = 0;
  };

  /// Makes the connections, resets half of them, takes everything down.
  Pass run(unsigned connections, unsigned namespaces, bool iterators) {
    std::vector<std::unique_ptr<Holder>> holders;
    for (unsigned i = 0; i < namespaces; ++i) holders.push_back(std::make_unique<Holder>(connections / namespaces));
    for (const auto& holder : holders) holder->await();
    std::vector<mesh_owner> records;
    const auto doomed = at(kDoomed);
    must(datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kRead)).for_each([&](const mesh_owner& owner) {
      if (ntohs(owner.backend_port_be) == doomed.port) records.push_back(owner);
    });
    const datapath::Killer killer = iterators ? must(mesh_->make_killer()) : datapath::Killer(mesh_->maps());
    if (killer.uses_iterators() != iterators) throw std::runtime_error("this kernel has no bpf_sock_destroy");
    const double cpu = cpu_seconds();
    const base::TimePoint begin = base::steady_now();
    Pass pass{.asked = records.size(), .report = killer.kill(records)};
    pass.wall_s = std::chrono::duration<double>(base::steady_now() - begin).count();
    pass.cpu_s = cpu_seconds() - cpu;
    return pass;
  }

 private:
  test::Sandbox sandbox_;
  std::unique_ptr<datapath::Datapath> mesh_;
  std::unique_ptr<datapath::Writer> writer_;
};

int run(unsigned connections, unsigned namespaces) {
  if (const std::string why = test::Sandbox::unavailable(); !why.empty()) throw std::runtime_error(why);
  const rlim_t each = connections / namespaces * 4ULL + 256;  // descriptors of one process with connections
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < each) throw std::runtime_error(fmt::format("needs {} open files: take more namespaces", each));
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  Bench bench;
  nlohmann::json results = nlohmann::json::array();
  for (const bool iterators : {true, false}) {
    const Bench::Pass pass = bench.run(connections, namespaces, iterators);
    const std::size_t killed = pass.report.count(datapath::KillOutcome::kKilled);
    const std::string by = iterators ? "iterators" : "sock_diag";
    const std::string what = fmt::format("{} of {} sockets reset in {} namespaces", killed, pass.asked, namespaces);
    const auto add = [&](const std::string& name, double figure, const char* unit) {
      results.push_back({{"name", name + ", " + by}, {"figure", figure}, {"unit", unit}, {"note", what}});
    };
    add("reset pass, wall", pass.wall_s * 1e3, "ms");
    add("reset pass, CPU", pass.cpu_s * 1e3, "ms");
    results.push_back({{"name", "sockets left, " + by},
                       {"figure", connections / namespaces * namespaces - killed},
                       {"unit", "sockets"},
                       {"goal", "== 0"}});
  }
  std::printf("%s\n", nlohmann::json{{"results", results}}.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  CLI::App app{"drain_bench: what a pass costs that resets connections"};
  unsigned connections = 10000;
  unsigned namespaces = 4;
  app.add_option("--connections", connections, "to the backend that is drained; as many to another")
      ->capture_default_str();
  app.add_option("--namespaces", namespaces, "they are spread over")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return mesh::bench::run(connections, namespaces);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "drain_bench: %s\n", error.what());
    return 1;
  }
}
