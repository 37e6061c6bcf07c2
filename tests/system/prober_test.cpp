// SPDX-License-Identifier: Apache-2.0
// The prober against real servers and hostile peers on loopback, on both loops.
#include "health/prober.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>

#include "tests/support/peer.hpp"
#include "tests/support/process.hpp"

namespace mesh::health {
namespace {

using namespace std::chrono_literals;
using model::ProbePolicy;
using model::ProbeReason;
using model::ProbeType;
using model::Verdict;

using test::free_port;
using test::hear;
using test::linger;
using test::Listening;
using test::listens;
using test::Peer;
using test::say;

class ProberTest : public testing::TestWithParam<io::LoopKind> {
 protected:
  void SetUp() override {
    prober_ = std::make_unique<Prober>(Prober::Options{.loop = GetParam(), .node_seed = 7, .version = "test"});
    const auto started = prober_->start([this](HealthBatch batch) {
      const std::lock_guard lock(mutex_);
      for (auto& [frontend, health] : batch) view_[frontend] = health;
      changed_.notify_all();
    });
    if (!started) GTEST_SKIP() << "SKIPPED: " << started.error().to_string();
  }

  /// Probes 127.0.0.1:port under `policy`, as the only service.
  void probe(std::uint16_t port, ProbePolicy policy) {
    port_ = port;
    auto service = std::make_shared<model::Service>();
    service->name = "s";
    service->frontend = frontend_;
    service->probe = std::make_shared<ProbePolicy>(std::move(policy));
    service->endpoints = {{.address = *base::SocketAddress::parse("127.0.0.1:" + std::to_string(port))}};
    auto snapshot = std::make_shared<model::Snapshot>();
    snapshot->services = {service};
    prober_->set_services(snapshot);
  }

  /// The first record that satisfies `condition`, or the last one after 10 s.
  model::EndpointHealth wait(const std::function<bool(const model::EndpointHealth&)>& condition) {
    std::unique_lock lock(mutex_);
    model::EndpointHealth last;
    changed_.wait_for(lock, 10s, [&] {
      const auto found = view_.find(frontend_);
      if (found == view_.end() || found->second == nullptr) return false;
      last = found->second->endpoints.at(0);
      // A batch about the service before may still arrive after its successor was set.
      return last.address.port == port_ && condition(last);
    });
    return last;
  }
  model::EndpointHealth first_result() {
    return wait([](const auto& record) { return record.reason != ProbeReason::kNone; });
  }
  /// Probes once and returns how it ended.
  model::EndpointHealth result_of(std::uint16_t port, ProbePolicy policy) {
    probe(port, std::move(policy));
    return first_result();
  }

  const model::Frontend frontend_{.address = *base::SocketAddress::parse("240.64.0.1:80")};
  std::mutex mutex_;
  std::condition_variable changed_;
  model::HealthView view_;
  std::uint16_t port_ = 0;  ///< Of the service under probe.
  std::unique_ptr<Prober> prober_;
};

TEST_P(ProberTest, tcp_up_when_it_listens_and_refused_when_it_does_not) {
  Listening listening;
  EXPECT_EQ(result_of(listening.port, {}).verdict, Verdict::kUp);
  EXPECT_EQ(prober_->stats().loop, GetParam() == io::LoopKind::kUring ? "io_uring" : "epoll");
  listening.fd.reset();
  const std::uint16_t port = listening.port;
  probe(port, {.interval = 100ms, .fast_interval = 20ms});
  const auto down = wait([](const auto& record) { return record.verdict == Verdict::kDown; });
  EXPECT_EQ(down.reason, ProbeReason::kRefused);
  EXPECT_EQ(down.streak, 3U);
}

TEST_P(ProberTest, tcp_probes_leave_no_time_wait) {
  Peer peer([](int fd) { linger(fd); });
  probe(peer.port(), {.interval = 10ms, .timeout = 10ms, .fast_interval = 10ms});
  ASSERT_TRUE(test::eventually(
      10s, [&] { return prober_->stats().types[0].results[static_cast<std::size_t>(ProbeReason::kOk)] >= 50; }));
  prober_->stop();
  char port[8];
  std::snprintf(port, sizeof(port), ":%04X", peer.port());
  std::ifstream table("/proc/net/tcp");
  for (std::string line; std::getline(table, line);) {
    EXPECT_FALSE(line.contains(port) && line.contains(" 06 ")) << line;  // 06: TIME_WAIT
  }
}

TEST_P(ProberTest, http_of_python) {
  const auto root = std::filesystem::temp_directory_path() / ("mesh-prober-" + std::to_string(::getpid()));
  std::filesystem::create_directories(root);
  std::ofstream(root / "healthz") << "all is well";
  const std::uint16_t port = free_port();
  auto server = test::Process::start({.output = "/dev/null"}, {"python3", "-m", "http.server", "--bind", "127.0.0.1",
                                                               "-d", root, std::to_string(port)});
  const ProbePolicy policy{.type = ProbeType::kHttp, .interval = 100ms, .fast_interval = 50ms, .path = "/healthz"};
  probe(port, policy);
  const auto up = wait([](const auto& record) { return record.verdict == Verdict::kUp; });
  EXPECT_EQ(up.detail, "http 200");
  ProbePolicy missing = policy;
  missing.path = "/nothing";
  EXPECT_EQ(result_of(port, missing).reason, ProbeReason::kOk) << "it is another policy: the old record first";
  EXPECT_EQ(wait([](const auto& record) { return record.reason == ProbeReason::kStatus; }).detail, "http 404");
  ProbePolicy body = policy;
  body.expect_body = "is well";
  probe(port, body);
  EXPECT_EQ(wait([](const auto& record) { return record.verdict == Verdict::kUp; }).detail, "http 200");
  probe(port, policy);
  wait([](const auto& record) { return record.verdict == Verdict::kUp; });
  server.signal(SIGSTOP);
  const auto stopped = base::steady_now();
  const auto down = wait([](const auto& record) { return record.verdict == Verdict::kDown; });
  EXPECT_EQ(down.reason, ProbeReason::kTimeout);
  EXPECT_LT(base::steady_now() - stopped, 3 * 100ms + 3 * 1000ms + 200ms);
  server.signal(SIGCONT);
  EXPECT_EQ(wait([](const auto& record) { return record.verdict == Verdict::kUp; }).verdict, Verdict::kUp);
  std::filesystem::remove_all(root);
}

struct Hostile {
  std::string what;
  std::function<void(int)> serve;
  ProbeReason reason;
};

TEST_P(ProberTest, hostile_http_peers_cost_one_deadline_and_are_named) {
  const Hostile cases[] = {
      {"silent", [](int fd) { linger(fd); }, ProbeReason::kTimeout},
      {"garbage",
       [](int fd) {
         say(fd, "\x7f\x01\xff what?\r\n\r\n");
         linger(fd);
       },
       ProbeReason::kProtocol},
      {"half closed",
       [](int fd) {
         ::shutdown(fd, SHUT_WR);
         linger(fd);
       },
       ProbeReason::kReset},
      {"reset",
       [](int fd) {
         hear(fd);
         const ::linger reset{.l_onoff = 1, .l_linger = 0};
         ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
         ::close(fd);
       },
       ProbeReason::kReset},
      {"byte by byte",
       [](int fd) {
         hear(fd);
         for (const char byte : std::string("HTTP/1.1 200 OK\r\n") + std::string(1000, 'x')) {
           say(fd, {&byte, 1});
           std::this_thread::sleep_for(20ms);
         }
       },
       ProbeReason::kTimeout},
      {"slow body",
       [](int fd) {
         hear(fd);
         say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc");
         linger(fd);
       },
       ProbeReason::kTimeout},
      {"endless headers",
       [](int fd) {
         hear(fd);
         say(fd, "HTTP/1.1 200 OK\r\n");
         while (::send(fd, "X-More: and more and more and more\r\n", 36, 0) > 0) {
         }
       },
       ProbeReason::kProtocol},
      {"endless body, but a status",
       [](int fd) {
         hear(fd);
         say(fd, "HTTP/1.1 200 OK\r\n\r\n");
         while (::send(fd, "more and more and more and more and\n", 36, 0) > 0) {
         }
       },
       ProbeReason::kOk},
      {"cut off body",
       [](int fd) {
         hear(fd);
         say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc");
       },
       ProbeReason::kProtocol},
  };
  for (const auto& [what, serve, reason] : cases) {
    Peer peer(serve);
    view_.clear();
    const auto begun = base::steady_now();
    const auto record = result_of(peer.port(), {.type = ProbeType::kHttp, .timeout = 400ms});
    EXPECT_EQ(record.reason, reason) << what << ": " << record.detail;
    EXPECT_LT(base::steady_now() - begun, 600ms) << what;
  }
}

/// A CA and certificates of each kind in a folder of their own, made by the openssl program.
class Certificates {
 public:
  Certificates() : root_(std::filesystem::temp_directory_path() / ("mesh-certs-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(root_);
    test::must_run({"sh", "-ec", R"(
      key="ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
      openssl req -x509 -newkey $key -keyout ca.key -out ca.pem -subj /CN=ca -days 2
      openssl req -x509 -newkey $key -keyout self.key -out self.pem -subj /CN=shop -days 2 -addext subjectAltName=DNS:shop
      make() {
        openssl req -newkey $key -keyout $1.key -out $1.csr -subj /CN=$1
        echo "subjectAltName=$3" > $1.ext
        openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $2 -extfile $1.ext -out $1.pem
      }
      make good 2 DNS:shop,IP:127.0.0.1
      make expired -1 DNS:shop
      make other 2 DNS:elsewhere)"},
                   {.output = path("log"), .directory = root_});
  }
  ~Certificates() { std::filesystem::remove_all(root_); }
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;
  [[nodiscard]] std::string path(const std::string& name) const { return root_ / name; }

 private:
  std::filesystem::path root_;
};

TEST_P(ProberTest, https_of_openssl_checks_chain_name_and_expiry) {
  const Certificates certificates;
  const struct {
    std::string certificate, sni, ca;
    bool verify;
    ProbeReason reason;
    std::string detail;
  } cases[] = {
      {"good", "shop", "ca.pem", true, ProbeReason::kOk, "http 200"},
      {"good", "", "ca.pem", true, ProbeReason::kOk, "http 200"},
      {"expired", "shop", "ca.pem", true, ProbeReason::kTls, "certificate expired"},
      {"other", "shop", "ca.pem", true, ProbeReason::kTls, "name mismatch"},
      {"self", "shop", "ca.pem", true, ProbeReason::kTls, "self-signed certificate"},
      {"good", "shop", "", true, ProbeReason::kTls, "unknown issuer"},
      {"expired", "shop", "", false, ProbeReason::kOk, "http 200"},
      {"good", "shop", "nothing.pem", true, ProbeReason::kLocal, "load CA certificates from"},
  };
  for (const auto& test : cases) {
    const std::uint16_t port = free_port();
    auto server = test::Process::start(
        {.output = "/dev/null"},
        {"openssl", "s_server", "-accept", "127.0.0.1:" + std::to_string(port), "-www", "-cert",
         certificates.path(test.certificate + ".pem"), "-key", certificates.path(test.certificate + ".key")});
    ASSERT_TRUE(test::eventually(5s, [&] { return listens(port); }));
    view_.clear();
    const auto record = result_of(port, {.type = ProbeType::kHttps,
                                         .interval = 60s,
                                         .sni = test.sni,
                                         .ca_file = test.ca.empty() ? "" : certificates.path(test.ca),
                                         .verify = test.verify});
    EXPECT_EQ(record.reason, test.reason) << test.certificate << ": " << record.detail;
    EXPECT_TRUE(record.detail.starts_with(test.detail)) << test.certificate << ": " << record.detail;
  }
}

TEST_P(ProberTest, https_against_what_is_no_tls_server) {
  Peer plain([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
    linger(fd);
  });
  const auto wrong = result_of(plain.port(), {.type = ProbeType::kHttps, .interval = 60s});
  EXPECT_EQ(wrong.reason, ProbeReason::kTls);
  EXPECT_EQ(wrong.detail, "not TLS");
  Peer silent([](int fd) { linger(fd); });
  view_.clear();
  const auto late = result_of(silent.port(), {.type = ProbeType::kHttps, .interval = 60s, .timeout = 300ms});
  EXPECT_EQ(late.reason, ProbeReason::kTimeout);
  EXPECT_EQ(late.detail, "TLS handshake timeout");
}

constexpr std::string_view kGrpcServer = R"(
import sys, time
from concurrent import futures
import grpc
def check(request, context):
    name = request[2:].decode()
    if name == "missing": context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x02" if name == "sick" else b"\x08\x01"
server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
if len(sys.argv) < 4:
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),))
if len(sys.argv) > 2 and sys.argv[2] != "":
    pem = lambda name: open(sys.argv[2] + name, "rb").read()
    credentials = grpc.ssl_server_credentials([(pem("good.key"), pem("good.pem"))])
    server.add_secure_port("127.0.0.1:" + sys.argv[1], credentials)
else:
    server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
time.sleep(60)
)";

TEST_P(ProberTest, grpc_health_of_a_real_server) {
  if (test::run({"/usr/bin/python3", "-c", "import grpc"}).code != 0) {
    GTEST_SKIP() << "SKIPPED: no python3-grpcio; scripts/setup --interop installs it";
  }
  const Certificates certificates;
  const std::uint16_t port = free_port();
  const std::uint16_t tls_port = free_port();
  const std::uint16_t bare_port = free_port();
  const std::string code(kGrpcServer);
  const auto start = [&](std::uint16_t at, const std::vector<std::string>& more) {
    std::vector<std::string> argv = {"/usr/bin/python3", "-c", code, std::to_string(at)};
    argv.insert(argv.end(), more.begin(), more.end());
    return test::Process::start({.output = "/dev/null"}, argv);
  };
  const auto server = start(port, {});
  const auto tls_server = start(tls_port, {certificates.path("")});
  const auto bare_server = start(bare_port, {"", "no health service"});
  const struct {
    std::uint16_t port;
    ProbePolicy policy;
    ProbeReason reason;
    std::string detail;
  } cases[] = {
      {port, {}, ProbeReason::kOk, "grpc serving"},
      {port, {.grpc_service = "shop"}, ProbeReason::kOk, "grpc serving"},
      {port, {.grpc_service = "sick"}, ProbeReason::kGrpc, "grpc not serving"},
      {port, {.grpc_service = "missing"}, ProbeReason::kGrpc, "grpc not found"},
      {bare_port, {}, ProbeReason::kGrpc, "grpc unimplemented"},
      {tls_port,
       {.tls = true, .sni = "shop", .ca_file = certificates.path("ca.pem")},
       ProbeReason::kOk,
       "grpc serving"},
      {tls_port,
       {.tls = true, .sni = "else", .ca_file = certificates.path("ca.pem")},
       ProbeReason::kTls,
       "name mismatch"},
  };
  for (const auto& test : cases) {
    ASSERT_TRUE(test::eventually(20s, [&] { return listens(test.port); }));
    ProbePolicy policy = test.policy;
    policy.type = ProbeType::kGrpc;
    policy.interval = 60s;
    view_.clear();
    const auto record = result_of(test.port, policy);
    EXPECT_EQ(record.reason, test.reason) << test.detail;
    EXPECT_EQ(record.detail, test.detail);
  }
}

TEST_P(ProberTest, a_peer_that_drops_handshakes_is_a_connect_timeout) {
  Listening full(0);  // a backlog of one: the second connection below fills it, the probe's SYN is dropped
  const base::Fd first(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const base::Fd second(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const sockaddr_in there{.sin_family = AF_INET, .sin_port = htons(full.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  for (const base::Fd* fd : {&first, &second}) {
    ::connect(fd->get(), reinterpret_cast<const sockaddr*>(&there), sizeof(there));
  }
  const auto begun = base::steady_now();
  const auto record = result_of(full.port, {.interval = 60s, .timeout = 200ms});
  EXPECT_EQ(record.reason, ProbeReason::kTimeout);
  EXPECT_EQ(record.detail, "connect timeout");
  EXPECT_LT(base::steady_now() - begun, 400ms);
  EXPECT_TRUE(test::eventually(2s, [&] { return prober_->stats().in_flight == 0; }));
}

TEST_P(ProberTest, without_descriptors_it_is_this_nodes_trouble_and_nobody_goes_down) {
  Listening listening;
  probe(listening.port, {.interval = 400ms, .timeout = 50ms, .jitter_percent = 0});
  ASSERT_EQ(first_result().verdict, Verdict::kUp);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  {
    // Probes come and go: the lowest free number is only sure after a look at several.
    std::vector<base::Fd> probe_fds;
    for (int i = 0; i < 4; ++i) probe_fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    none.rlim_cur = static_cast<rlim_t>(probe_fds.front().get());
  }
  const auto local = static_cast<std::size_t>(ProbeReason::kLocal);
  ::setrlimit(RLIMIT_NOFILE, &none);
  const bool seen = test::eventually(5s, [&] { return prober_->stats().types[0].results[local] >= 2; });
  ::setrlimit(RLIMIT_NOFILE, &before);  // the next probe is 400 ms away
  const auto meanwhile = prober_->latest(frontend_);
  EXPECT_TRUE(seen);
  ASSERT_NE(meanwhile, nullptr);
  EXPECT_EQ(meanwhile->endpoints.at(0).verdict, Verdict::kUp);
  EXPECT_EQ(meanwhile->endpoints.at(0).reason, ProbeReason::kLocal);
  EXPECT_EQ(meanwhile->endpoints.at(0).detail, "Too many open files");
  EXPECT_TRUE(
      test::eventually(5s, [&] { return prober_->latest(frontend_)->endpoints.at(0).reason == ProbeReason::kOk; }));
}

TEST_P(ProberTest, latest_is_fresh_without_any_publish) {
  Listening listening;
  probe(listening.port, {.interval = 20ms, .timeout = 20ms, .fast_interval = 20ms, .jitter_percent = 0});
  const auto first = first_result();
  ASSERT_TRUE(test::eventually(5s, [&] {
    const auto latest = prober_->latest(frontend_);
    return latest != nullptr && latest->endpoints.at(0).checked_at > first.checked_at + 100ms;
  }));
  EXPECT_EQ(prober_->latest({.address = *base::SocketAddress::parse("240.64.0.9:1")}), nullptr);
}

TEST_P(ProberTest, stop_is_quick_with_probes_in_flight) {
  Peer peer([](int fd) { linger(fd); });
  probe(peer.port(), {.type = ProbeType::kHttp, .interval = 60s, .timeout = 60s});
  ASSERT_TRUE(test::eventually(5s, [&] { return prober_->stats().in_flight == 1; }));
  const auto begun = base::steady_now();
  prober_->stop();
  EXPECT_LT(base::steady_now() - begun, 500ms);
  EXPECT_TRUE(prober_->latest(std::vector{frontend_}).empty());
}

INSTANTIATE_TEST_SUITE_P(Loops, ProberTest, testing::Values(io::LoopKind::kUring, io::LoopKind::kEpoll),
                         [](const auto& test) { return test.param == io::LoopKind::kUring ? "io_uring" : "epoll"; });

}  // namespace
}  // namespace mesh::health
