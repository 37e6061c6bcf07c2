// SPDX-License-Identifier: Apache-2.0
// The relay as clients see it: curl over TLS to a listener, to the backends of a service; restarts of both processes.
#include "tests/support/relay_test.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <thread>

#include "base/random.hpp"
#include "relay/listen.hpp"
#include "tests/support/tls_client.hpp"
#include "tests/support/tls_trial.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

/// Sends back what it gets and says when it is over; one thread per connection.
int echo_server(std::uint16_t port) {
  const base::Fd listener = *relay::listen_on({*base::IpAddress::parse("::"), port});
  while (true) {
    pollfd ready{listener.get(), POLLIN, 0};
    ::poll(&ready, 1, -1);
    const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    std::thread([owned = base::Fd(fd)] {
      std::array<char, 20'000> buffer;
      while (true) {
        const ssize_t count = ::recv(owned.get(), buffer.data(), buffer.size(), 0);
        if (count <= 0) break;
        for (ssize_t sent = 0; sent < count;) {
          const ssize_t more =
              ::send(owned.get(), buffer.data() + sent, static_cast<std::size_t>(count - sent), MSG_NOSIGNAL);
          if (more <= 0) return;
          sent += more;
        }
      }
      ::shutdown(owned.get(), SHUT_WR);
    }).detach();
  }
}

/// One connection with a random amount of data in random pieces, ended by the client alone; why it failed, or "".
std::string echo_once(const base::SocketAddress& address, base::Random& random) {
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  const base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) return "connect";
  TlsClient client({.server_name = "shop.test"});
  std::string sent(random.below(8) == 0 ? random.below(1 << 20) : random.below(40'000), '\0');
  for (char& c : sent) c = static_cast<char>(random.next());
  std::string out, got;
  std::array<char, 65536> buffer;
  std::size_t written = 0;
  bool closed = false;
  while (!client.peer_closed()) {
    if (out.empty() && client.open() && written < sent.size()) {
      const std::size_t size = std::min<std::size_t>(1 + random.below(30'000), sent.size() - written);
      client.write(std::string_view(sent).substr(written, size));
      written += size;
    } else if (out.empty() && client.open() && written == sent.size() && !std::exchange(closed, true)) {
      client.close();
    }
    out += client.take_output();
    pollfd ready{fd.get(), static_cast<short>(out.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    if (client.open() && out.empty() && !closed) ready.events |= POLLOUT;
    if (::poll(&ready, 1, 10'000) <= 0) return "nothing for ten seconds";
    if (!out.empty()) {
      const ssize_t count = ::send(fd.get(), out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count > 0) out.erase(0, static_cast<std::size_t>(count));
      if (count < 0 && errno != EAGAIN) return "send";
    }
    const ssize_t count = ::recv(fd.get(), buffer.data(), 1 + random.below(buffer.size()), MSG_DONTWAIT);
    if (count == 0) return "cut off";
    if (count < 0 && errno != EAGAIN) return "receive";
    if (count > 0) got += client.feed(std::as_bytes(std::span(buffer.data(), static_cast<std::size_t>(count))));
  }
  return got == sent ? "" : "other bytes came back";
}

TEST_F(RelayTest, a_service_answers_over_tls) {
  start(fmt::format("service: web, tls: {{certificates: [{}]}}", pair("shop")));
  std::map<std::string, int> answers;
  for (int i = 0; i < 8; ++i) ++answers[curl("shop.test", {}, i % 2 == 1).text];
  EXPECT_EQ(answers, (std::map<std::string, int>{{"web1", 4}, {"web2", 4}}));
  for (const char* version : {"--tlsv1.3", "--tls-max"}) {
    std::vector<std::string> more{version};
    if (std::string(version) == "--tls-max") more.emplace_back("1.2");
    EXPECT_TRUE(curl("shop.test", more).text.starts_with("web")) << version;
  }
  const Output wrong = curl("cart.test");  // looks at the name when the handshake is done
  EXPECT_EQ(wrong.code, 60) << "the default certificate is not for this name: " << wrong.errors;

  const auto relay = [&] { return agent_->json({"status"})["relay"]; };
  // The one that did not like the name left: before its backend was connected, or after.
  const auto ended = [&] {
    const Json listener = relay()["listeners"][0];
    int failed = 0;
    for (const Json& reason : listener["failed"]) failed += reason["count"].get<int>();
    return std::pair(listener.value("relayed", 0), failed);
  };
  ASSERT_TRUE(eventually(seconds(5), [&] { return ended().first + ended().second == 11; })) << relay();
  EXPECT_GE(ended().first, 10) << relay();
  EXPECT_EQ(relay()["pid"], relay_->pid());
  EXPECT_GT(relay()["listeners"][0].value("bytes_sent", 0), 0);
  const std::string metrics = agent_->http("/metrics");
  EXPECT_NE(metrics.find(fmt::format("mesh_relay_relayed_total{{listener=\"shop\"}} {}", ended().first)),
            std::string::npos)
      << metrics;
  EXPECT_NE(metrics.find("mesh_relay_handshakes_total{listener=\"shop\",version=\"TLSv1.3\""), std::string::npos);
}

TEST_F(RelayTest, its_own_connections_are_exempt_while_nobody_else_is_in_its_cgroup) {
  const std::string text = body(fmt::format("service: one, tls: {{certificates: [{}]}}", pair("shop")));
  agent_ = std::make_unique<Agent>(*lab_, *node_, AgentSpec{.cgroups = {"apps", "relay"}, .body = text});
  agent_->start();
  relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
  relay_->start();
  ASSERT_TRUE(agent_->await_healthy()) << agent_->log();
  const auto exempt = [&] { return agent_->dump()["control"].value("exempt_relay_cgroup", 0U); };
  struct stat cgroup{};
  ASSERT_EQ(::stat(lab_->cgroup("relay").c_str(), &cgroup), 0);
  EXPECT_TRUE(eventually(seconds(5), [&] { return exempt() == static_cast<std::uint32_t>(cgroup.st_ino); }))
      << exempt();
  EXPECT_EQ(agent_->json({"status"})["relay"]["exempt_error"], "");
  const Process other = Process::start(lab_->on(*node_, "relay"), {"sleep", "60"});
  EXPECT_TRUE(eventually(seconds(5), [&] { return exempt() == 0; })) << "what it may do the other could do, too";
  const std::string error = agent_->json({"status"})["relay"]["exempt_error"];
  EXPECT_NE(error.find(std::to_string(other.pid())), std::string::npos) << error;
}

TEST_F(RelayTest, random_sizes_and_half_closes_come_back_byte_by_byte_and_leave_nothing) {
  const Process server =
      Process::start(lab_->on(*hosts_[0], "servers"), std::function<int()>([] { return echo_server(7777); }));
  start_agent_and_relay(
      fmt::format("services: [{{name: echo, address: \"240.64.0.10:80\", endpoints: [{{address: \"{}\"}}]}}]\n"
                  "relay: {{workers: 2, listeners: [{{name: shop, address: \"[::]:8443\", service: echo, tls: "
                  "{{certificates: [{}]}}}}]}}\n",
                  hosts_[0]->v4(7777), pair("shop")));
  const auto soak = [&](int rounds, std::uint64_t seed) {
    std::vector<Process> clients;
    for (std::uint64_t i = 0; i < 3; ++i) {
      clients.push_back(Process::start(lab_->on(*clients_, "others", "clients.log"), std::function<int()>([&, i] {
                                         base::Random random(seed + i);
                                         for (int round = 0; round < rounds; ++round) {
                                           const std::string failure =
                                               echo_once(*base::SocketAddress::parse(node_->v4(8443)), random);
                                           if (failure.empty()) continue;
                                           fmt::print(stderr, "seed {} round {}: {}\n", seed + i, round, failure);
                                           return 1;
                                         }
                                         return 0;
                                       })));
    }
    for (Process& client : clients) EXPECT_EQ(client.wait(seconds(60)), 0) << file("clients.log");
  };
  const auto descriptors = [&] { return relay_->descriptors(); };
  soak(20, 1);
  const auto before = descriptors();
  const std::uint64_t memory = relay_->resident_bytes();
  soak(150, 100);
  EXPECT_TRUE(eventually(seconds(5), [&] { return descriptors() == before; })) << descriptors() << " were " << before;
  EXPECT_LT(relay_->resident_bytes(), memory + (16U << 20));
}

/// A program that does what the lines of its input say: `open N` says how many of N connections were open in the end,
/// `echo` sends a word through each, `close` ends all. Its arguments are HOST PORT CA_FILE.
constexpr const char* kHolder = R"(
import socket, ssl, sys
c = ssl.create_default_context(cafile=sys.argv[3])
held = []
for line in sys.stdin:
    what, *count = line.split()
    if what == 'open':
        for _ in range(int(count[0])):
            try:
                s = c.wrap_socket(socket.create_connection(sys.argv[1:3], 20), server_hostname='shop.test')
                s.sendall(b'word')
                if s.recv(4) == b'word':
                    held.append(s)
            except OSError:
                pass
        print(len(held), flush=True)
    elif what == 'echo':
        for s in held:
            s.sendall(b'word')
        print(all(s.recv(4) == b'word' for s in held), flush=True)
    else:
        for s in held:
            s.close()
        held = []
        print('closed', flush=True)
)";

TEST_F(RelayTest, without_descriptors_it_limits_itself_and_open_connections_go_on) {
  const Process server =
      Process::start(lab_->on(*hosts_[0], "servers"), std::function<int()>([] { return echo_server(7777); }));
  constexpr unsigned kDescriptors = 300;  // 128 of them are for all that is no connection
  agent_ = std::make_unique<Agent>(
      *lab_, *node_,
      AgentSpec{.body = fmt::format(
                    "services: [{{name: echo, address: \"240.64.0.10:80\", endpoints: [{{address: \"{}\"}}]}}]\n"
                    "relay: {{workers: 2, listeners: [{{name: shop, address: \"[::]:8443\", service: echo, tls: "
                    "{{certificates: [{}]}}}}]}}\n",
                    hosts_[0]->v4(7777), pair("shop"))});
  agent_->start();
  relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
  relay_->limit_descriptors(kDescriptors);
  relay_->start();
  ASSERT_TRUE(agent_->await_healthy()) << relay_->log();
  const auto failed = [&](const std::string& reason) {
    for (const Json& one : agent_->json({"status"})["relay"]["listeners"][0]["failed"]) {
      if (one["name"] == reason) return one["count"].get<int>();
    }
    return 0;
  };
  // Who talks to the holders, through files: a line in, a line out.
  struct Holder {
    Process process;
    std::string name;
    std::size_t lines = 0;
  };
  const auto holder = [&](const std::string& name) {
    lab_->write_file(name + ".in", "");
    lab_->write_file(name + ".out", "");
    return Holder{
        Process::start(lab_->on(*clients_, "others", name + ".out"),
                       {"bash", "-c",
                        fmt::format("tail -f -n +1 {}.in | python3 -c \"$1\" {} 8443 {}", file(name), node_->v4(), ca_),
                        "holder", kHolder}),
        name};
  };
  const auto tell = [&](Holder& to, const std::string& line) {
    ++to.lines;
    std::ofstream(file(to.name + ".in"), std::ios::app) << line << std::endl;
  };
  const auto said = [&](const Holder& of) -> std::string {
    std::ifstream in(file(of.name + ".out"));
    std::string line;
    for (std::size_t i = 0; i < of.lines; ++i) {
      if (!std::getline(in, line)) return "";
    }
    return line;
  };
  const auto answer = [&](Holder& of, const std::string& line) {
    tell(of, line);
    EXPECT_TRUE(eventually(seconds(60), [&] { return !said(of).empty(); })) << line;
    return said(of);
  };

  // More connections than it has places for: the rest is closed at once, and counted.
  constexpr int kPlaces = (kDescriptors - 128) / 2;
  Holder many = holder("many");
  EXPECT_EQ(answer(many, "open 120"), std::to_string(kPlaces));
  EXPECT_TRUE(eventually(seconds(5), [&] { return failed("limit: descriptors") == 120 - kPlaces; }))
      << agent_->json({"status"})["relay"];
  EXPECT_EQ(answer(many, "echo"), "True");
  EXPECT_LE(relay_->descriptors(), kDescriptors);
  EXPECT_EQ(answer(many, "close"), "closed");
  EXPECT_TRUE(eventually(seconds(5),
                         [&] { return agent_->json({"status"})["relay"]["listeners"][0].value("active", 1) == 0; }));
  EXPECT_EQ(answer(many, "open 3"), "3") << "there is room again";

  // None at all: who comes waits, who is there is served, and it does not spin.
  const auto limit = [&](unsigned most) {
    must_run({"prlimit", "--pid", std::to_string(relay_->pid()), fmt::format("--nofile={}:", most)});
  };
  limit(8);
  Holder late = holder("late");
  tell(late, "open 3");  // an accept() that a worker had begun before still takes one, which is then refused
  EXPECT_TRUE(eventually(seconds(10), [&] {
    return relay_->log().find("no connection accepted") != std::string::npos;
  })) << relay_->log();
  const auto used = relay_->cpu_time();
  std::this_thread::sleep_for(seconds(2));
  EXPECT_LT((relay_->cpu_time() - used).count(), 500) << "of two seconds";
  EXPECT_EQ(answer(many, "echo"), "True");
  EXPECT_EQ(said(late), "");
  limit(kDescriptors);
  EXPECT_TRUE(eventually(seconds(10), [&] { return !said(late).empty(); }));
  EXPECT_GE(std::stoi("0" + said(late)), 1) << "who waited is served";
}

TEST_F(RelayTest, passes_tls_through_by_name) {
  start_agent_and_relay(fmt::format(
      "services:\n"
      "  - {{name: one, address: \"240.64.0.11:80\", endpoints: [{{address: \"{}\"}}]}}\n"
      "  - {{name: inner, address: \"240.64.0.12:80\", endpoints: [{{address: \"{}\"}}]}}\n"
      "relay:\n"
      "  listeners:\n"
      "    - {{name: outer, address: \"[::]:8443\", mode: passthrough, routes: [{{sni: shop.test, service: inner}}]}}\n"
      "    - {{name: inner, address: \"[::]:9443\", service: one, tls: {{certificates: [{}]}}}}\n",
      hosts_[0]->v4(8080), node_->v4(9443), pair("shop")));
  EXPECT_EQ(curl("shop.test").text, "web1");
  EXPECT_NE(curl("cart.test").code, 0) << "no route is for this name";
}

TEST_F(RelayTest, certificates_are_chosen_by_name_and_a_bad_one_is_refused) {
  start(fmt::format("service: web, tls: {{certificates: [{}, {}]}}", pair("shop"), pair("cart")));
  EXPECT_EQ(curl("shop.test").code, 0);
  EXPECT_EQ(curl("cart.test").code, 0);
  lab_->write_file("cart.key", "no key");
  relay_->signal(SIGHUP);
  const auto listener = [&] { return agent_->json({"status"})["relay"]["listeners"][0]; };
  ASSERT_TRUE(eventually(seconds(5), [&] { return listener().value("error", "") != ""; }));
  EXPECT_NE(listener().value("error", "").find("cart.key"), std::string::npos) << listener();
  EXPECT_EQ(curl("cart.test").code, 0) << "the one before stays";
  EXPECT_NE(agent_->ctl({"status"}).text.find("cart.key"), std::string::npos) << agent_->ctl({"status"}).text;
}

TEST_F(RelayTest, another_backend_is_taken_when_one_is_gone_and_an_agent_is_not_needed) {
  start(fmt::format("service: web, tls: {{certificates: [{}]}}", pair("shop")));
  agent_->kill();
  servers_[0]->kill();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(curl("shop.test").text, "web2");
  relay_->kill();
  relay_->start();  // with what is on disk
  EXPECT_TRUE(eventually(seconds(10), [&] { return curl("shop.test").text == "web2"; })) << relay_->log();
}

TEST_F(RelayTest, hostile_clients_harm_nobody_and_leave_nothing_behind) {
  start(fmt::format("service: web, tls: {{certificates: [{}]}}, limits: {{handshake_timeout: 1s}}", pair("shop")));
  const auto descriptors = [&] { return relay_->descriptors(); };
  ASSERT_TRUE(curl("shop.test").text.starts_with("web"));
  const auto before = descriptors();
  const Output hostile = run({"python3", hostile_clients(), node_->v4(), "8443", "shop.test", ca_},
                             lab_->on(*clients_, "others"), seconds(90));
  EXPECT_EQ(hostile.code, 0) << hostile.text << hostile.errors;
  const auto listener = [&] { return agent_->json({"status"})["relay"]["listeners"][0]; };
  EXPECT_TRUE(eventually(seconds(10), [&] { return listener().value("active", 1) == 0; })) << listener();
  EXPECT_TRUE(eventually(seconds(5), [&] { return descriptors() <= before; })) << descriptors() << " after " << before;
  const auto sockets = [&] {  // the kernel may hold one that has no descriptor
    return must_run({"ss", "-tnH", "state", "connected", "exclude", "time-wait", "sport", "=", ":8443"},
                    lab_->on(*node_, "others"));
  };
  EXPECT_TRUE(eventually(seconds(10), [&] { return sockets().empty(); })) << sockets();
  EXPECT_GT(listener()["failed"].size(), 3U) << "said by reason: " << listener();
}

TEST_F(RelayTest, changed_certificates_are_taken_without_touching_a_connection_and_bad_ones_are_refused) {
  start(fmt::format("service: web, tls: {{certificates: [{}]}}", pair("shop")));
  ASSERT_TRUE(curl("shop.test").text.starts_with("web"));
  const Json before = agent_->json({"certs"})["items"][0]["certificates"][0];
  EXPECT_EQ(before["names"], Json::array({"shop.test"}));
  EXPECT_EQ(before["error"], "");

  // A connection that is there all the time: what it is asked at the end is answered.
  Process held =
      Process::start(lab_->on(*clients_, "others", "held.log"),
                     {"python3", "-c",
                      "import socket, ssl, sys, time\n"
                      "c = ssl.create_default_context(cafile=sys.argv[1])\n"
                      "s = c.wrap_socket(socket.create_connection((sys.argv[2], 8443)), server_hostname='shop.test')\n"
                      "time.sleep(5)\n"
                      "s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
                      "sys.exit(0 if s.recv(12) == b'HTTP/1.1 200' else 1)\n",
                      ca_, node_->v4()});
  const auto day = std::chrono::system_clock::now() + std::chrono::hours(24);
  const CertificatePem next = make_certificate_for("DNS:shop.test", day, &authority_);
  lab_->write_file("shop.crt", next.certificate);
  lab_->write_file("shop.key", next.key);
  const auto shown = [&] { return agent_->json({"certs"})["items"][0]["certificates"][0]; };
  ASSERT_TRUE(eventually(seconds(8), [&] { return shown()["fingerprint"] != before["fingerprint"]; })) << shown();
  EXPECT_TRUE(curl("shop.test").text.starts_with("web"));
  lab_->write_file("shop.key", "no key");
  ASSERT_TRUE(eventually(seconds(8), [&] { return shown()["error"] != ""; })) << shown();
  EXPECT_TRUE(curl("shop.test").text.starts_with("web"));
  EXPECT_NE(agent_->ctl({"status"}).text.find("certificates before stay in use"), std::string::npos);
  EXPECT_EQ(held.wait(seconds(15)), 0);
}

TEST_F(RelayTest, restarts_and_upgrades_lose_no_connection) {
  const TlsTrialReport report = run_tls_trial({.rounds = 1, .program = built_next_meshd()});
  for (const std::string& fault : report.faults) ADD_FAILURE() << fault;
  ASSERT_EQ(report.rows.size(), 5U);
  for (const auto& row : report.rows) EXPECT_GE(row.attempts, 100U) << row.what;
}

}  // namespace
}  // namespace mesh::test
