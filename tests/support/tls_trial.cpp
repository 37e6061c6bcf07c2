// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tls_trial.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "tests/support/agent.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/identify_server.hpp"
#include "tests/support/relay.hpp"
#include "tests/support/shared_memory.hpp"
#include "tests/support/tls_client.hpp"

namespace mesh::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kConnectionsBetween = 50;

/// One connection; why it failed, or "".
std::string connect_once(const base::SocketAddress& address, const std::string& server_name) {
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) {
    return std::string("connect: ") + std::strerror(errno);
  }
  TlsClient client({.server_name = server_name});
  std::string plain;
  std::array<char, 4096> buffer;
  while (!client.peer_closed()) {
    const std::string out = client.take_output();
    if (!out.empty() && ::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size())) {
      return std::string("send: ") + std::strerror(errno);
    }
    const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count < 0) return std::string(client.open() ? "receive: " : "handshake: ") + std::strerror(errno);
    if (count == 0) return client.open() ? "cut off" : "cut off in the handshake";
    plain += client.feed(std::as_bytes(std::span(buffer.data(), static_cast<std::size_t>(count))));
  }
  return plain.starts_with("web") ? "" : "no answer";
}

}  // namespace

struct TlsLoop::Shared {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> attempts{0};
  std::atomic<std::uint64_t> failures{0};
  std::atomic<std::uint64_t> longest_ns{0};
  std::array<std::atomic<char>, 64> first_failure{};
};

TlsLoop::TlsLoop(const SpawnOptions& where, const std::string& address, const std::string& server_name)
    : shared_(make_shared_memory<Shared>()) {
  process_ = Process::start(where, [this, address, server_name] { return body(address, server_name, *shared_); });
}

int TlsLoop::body(const std::string& address, const std::string& server_name, Shared& shared) {
  const base::SocketAddress parsed = base::SocketAddress::parse(address).value();
  while (!shared.stop.load(std::memory_order_relaxed)) {
    const auto start = Clock::now();
    const std::string failure = connect_once(parsed, server_name);
    const auto took = static_cast<std::uint64_t>((Clock::now() - start).count());
    if (!failure.empty() && shared.failures.fetch_add(1) == 0) {
      for (std::size_t i = 0; i + 1 < shared.first_failure.size() && i < failure.size(); ++i) {
        shared.first_failure[i] = failure[i];
      }
    }
    if (took > shared.longest_ns.load()) shared.longest_ns = took;
    shared.attempts.fetch_add(1);
  }
  return 0;
}

std::uint64_t TlsLoop::attempts() const { return shared_->attempts; }
std::uint64_t TlsLoop::failures() const { return shared_->failures; }

bool TlsLoop::await_more(std::uint64_t count) const {
  const std::uint64_t goal = attempts() + count;
  return eventually(std::chrono::seconds(10), [&] { return attempts() >= goal; });
}

double TlsLoop::take_longest_ms() { return static_cast<double>(shared_->longest_ns.exchange(0)) / 1e6; }

TlsLoop::Counts TlsLoop::finish() {
  shared_->stop = true;
  if (!process_.wait(std::chrono::seconds(12))) process_.kill();
  Counts counts{attempts(), failures(), take_longest_ms(), {}};
  for (const auto& c : shared_->first_failure) {
    if (c == 0) break;
    counts.first_failure += c;
  }
  return counts;
}

TlsTrialReport run_tls_trial(const TlsTrialOptions& options) {
  TlsTrialReport report;
  Lab lab;
  Host& node = lab.add_host("node");
  Host& web1 = lab.add_host("web1");
  Host& web2 = lab.add_host("web2");
  Host& clients = lab.add_host("clients");
  IdentifyServer server1(lab, web1);
  IdentifyServer server2(lab, web2);
  const CertificatePem pair = make_certificate("shop.test", std::chrono::system_clock::now() + std::chrono::hours(24));
  const std::string certificate = lab.write_file("shop.crt", pair.certificate);
  const std::string key = lab.write_file("shop.key", pair.key);
  Agent agent(lab, node,
              {.body = fmt::format("services:\n"
                                   "  - {{name: web, address: \"240.64.0.10:80\", endpoints: [{{address: \"{}\"}}, "
                                   "{{address: \"{}\"}}]}}\n"
                                   "relay:\n"
                                   "  workers: 2\n"
                                   "  drain_timeout: 10s\n"
                                   "  listeners:\n"
                                   "    - {{name: shop, address: \"[::]:443\", service: web, tls: {{certificates: "
                                   "[{{certificate: {}, key: {}}}]}}}}\n",
                                   web1.v4(7000), web2.v4(7000), certificate, key)});
  RelayProcess relay(lab, node, agent);
  agent.start();
  relay.start();
  if (!agent.await_healthy()) {
    report.faults.push_back("agent and relay do not become healthy: " + agent.ctl({"status"}).text + relay.log());
    return report;
  }
  std::vector<std::unique_ptr<TlsLoop>> loops;
  for (const std::string& address : {node.v4(443), node.v6(443)}) {
    loops.push_back(std::make_unique<TlsLoop>(lab.on(clients), address, "shop.test"));
  }
  int turn = 0;
  const auto next_program = [&] {
    return ++turn % 2 == 1 && !options.program.empty() ? options.program : built_program("meshd");
  };
  const auto trial = [&](const std::string& what, std::uint64_t allowed, const std::function<void()>& act) {
    TlsTrialReport::Row row{.what = what};
    std::uint64_t attempts = 0;
    std::uint64_t failures = 0;
    for (const auto& loop : loops) {
      attempts += loop->attempts();
      failures += loop->failures();
      loop->take_longest_ms();
    }
    for (int i = 0; i < options.rounds; ++i, ++row.times) {
      act();
      for (const auto& loop : loops) {
        if (!loop->await_more(kConnectionsBetween)) report.faults.push_back(what + ": clients hang");
      }
    }
    for (const auto& loop : loops) {
      row.attempts += loop->attempts();
      row.failures += loop->failures();
      row.longest_ms = std::max(row.longest_ms, loop->take_longest_ms());
    }
    row.attempts -= attempts;
    row.failures -= failures;
    row.allowed = allowed * static_cast<std::uint64_t>(row.times);
    report.rows.push_back(row);
    if (options.progress) options.progress(what);
  };
  const auto serving = [&] {
    return eventually(std::chrono::seconds(10), [&] {
      const Json status = Json::parse(agent.ctl({"status", "-o", "json"}).text, nullptr, false);
      return !status.is_discarded() && status.contains("relay") && status["relay"].value("connected", false) &&
             status["relay"].value("pid", 0) == relay.pid();
    });
  };
  const auto expect = [&](bool good, const std::string& what) {
    if (!good) report.faults.push_back(what);
  };
  trial("a successor takes over from the relay", 0, [&] {
    relay.use_program(next_program());
    relay.start_successor();
    expect(relay.wait_for_earlier(std::chrono::seconds(15)) == 0, "the earlier relay does not retire");
  });
  trial("the relay is stopped and started", 0, [&] {
    relay.signal(SIGTERM);
    expect(relay.wait(std::chrono::seconds(10)) == 0, "the relay does not stop");
    relay.use_program(next_program());
    relay.start();
    expect(serving(), "the relay does not come back");
  });
  trial("the agent is stopped and started", 0, [&] {
    expect(agent.terminate() == 0, "the agent does not stop");
    agent.use_program(next_program());
    agent.start();
    expect(serving(), "the agent does not come back");
  });
  trial("kill -9 of the agent", 0, [&] {
    agent.kill();
    agent.start();
    expect(serving(), "the agent does not come back");
  });
  trial("kill -9 of the relay", loops.size(), [&] {
    relay.kill();
    relay.start();
    expect(serving(), "the relay does not come back");
  });
  for (const auto& loop : loops) {
    const TlsLoop::Counts counts = loop->finish();
    if (counts.failures > 0 && options.progress) options.progress("first failure: " + counts.first_failure);
  }
  for (const TlsTrialReport::Row& row : report.rows) {
    if (row.failures > row.allowed) {
      report.faults.push_back(fmt::format("{}: {} of {} connections failed", row.what, row.failures, row.attempts));
    }
  }
  if (!report.faults.empty()) report.faults.push_back("log of the relay: " + relay.log());
  return report;
}

}  // namespace mesh::test
