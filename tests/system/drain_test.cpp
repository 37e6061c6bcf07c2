// SPDX-License-Identifier: Apache-2.0
// Live connections to an endpoint that is removed or drained: left for a while, then reset, exactly they.
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/address.hpp"
#include "tests/support/agent_test.hpp"
#include "tests/support/shared_memory.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr const char* kLocalVip = "240.64.0.11:80";
constexpr std::uint16_t kLocalPort = 7777;

sockaddr_in to_v4(const char* text) {
  sockaddr_storage storage{};
  base::SocketAddress::parse(text)->to_sockaddr(storage);
  return reinterpret_cast<const sockaddr_in&>(storage);
}

int connect_tcp(const char* address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = to_v4(address);
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 ? fd : -1;
}

/// An application that opens connections, says nothing, and counts what becomes of them.
struct Holder {
  struct Shared {
    std::atomic<int> open{-1};  ///< -1: not connected yet.
    std::atomic<int> aborted{0};
    std::atomic<int> other{0};  ///< Ended in another way.
  };

  Holder(const SpawnOptions& where, int count) : shared(make_shared_memory<Shared>()) {
    process = Process::start(where, [this, count] { return hold(*shared, count); });
  }

  static int hold(Shared& shared, int count) {
    std::vector<pollfd> sockets;
    for (int i = 0; i < count; ++i) {
      const int fd = connect_tcp(kVip);
      if (fd < 0) return 1;
      sockets.push_back({fd, POLLIN, 0});
    }
    shared.open = count;
    while (true) {
      ::poll(sockets.data(), sockets.size(), 100);
      for (pollfd& one : sockets) {
        if (one.fd < 0 || one.revents == 0) continue;
        char byte = 0;
        const bool aborted = ::read(one.fd, &byte, 1) < 0 && errno == ECONNABORTED;
        ++(aborted ? shared.aborted : shared.other);
        --shared.open;
        ::close(one.fd);
        one.fd = -1;
      }
    }
  }

  std::shared_ptr<Shared> shared;
  Process process;
};

class DrainTest : public AgentTest {
 protected:
  static constexpr int kConnections = 20;

  /// `more`: keys of the service "web", each ended by a comma.
  [[nodiscard]] std::string body(const std::string& endpoints, const std::string& more = "") const {
    return fmt::format(
        "defaults: {{drain_timeout: 2s}}\nservices:\n  - {{name: web, address: \"{}\", balance: round_robin, {}"
        "endpoints: "
        "{}}}\n  - {{name: local, address: \"{}\", endpoints: [{{address: \"127.0.0.1:{}\"}}]}}\n",
        kVip, more, endpoints, kLocalVip, kLocalPort);
  }

  void SetUp() override {
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(2);
    start_agent({.body = body(endpoints(8080))});
    holder_.emplace(app(), kConnections);
    ASSERT_TRUE(eventually(seconds(10), [&] { return holder_->shared->open == kConnections; }));
  }
  void TearDown() override {
    holder_.reset();
    AgentTest::TearDown();
  }

  [[nodiscard]] Json drain_of(const std::string& endpoint) {
    for (const Json& item : agent_->json({"drain", "--list"})["items"]) {
      if (item["endpoint"] == endpoint) return item;
    }
    return {};
  }
  [[nodiscard]] std::string eligibility(const std::string& endpoint) {
    for (const Json& item : agent_->json({"endpoints", "web"})["items"]) {
      if (item["address"] == endpoint) return item["eligibility"];
    }
    return "?";
  }
  void expect_half_aborted() {
    EXPECT_TRUE(eventually(seconds(15), [&] { return holder_->shared->aborted == kConnections / 2; }))
        << holder_->shared->aborted;
    EXPECT_EQ(holder_->shared->open, kConnections / 2);
    EXPECT_EQ(holder_->shared->other, 0);
  }

  std::optional<Holder> holder_;
};

TEST_F(DrainTest, a_removed_endpoint_keeps_its_connections_until_the_timeout_and_loses_exactly_them) {
  const std::string gone = hosts_[0]->v4(8080);
  agent_->reconfigure(body("[{address: \"" + hosts_[1]->v4(8080) + "\"}]"));
  ASSERT_TRUE(eventually(seconds(10), [&] { return !drain_of(gone).is_null(); }));
  const Json begun = drain_of(gone);
  EXPECT_EQ(begun["service"], "web");
  EXPECT_EQ(begun["reason"], "removed");
  EXPECT_NE(begun["deadline"], "");
  expect_half_aborted();
  EXPECT_TRUE(eventually(seconds(5), [&] { return drain_of(gone).is_null(); }));
  EXPECT_NE(agent_->http("/metrics").find("mesh_connections_reset_total{reason=\"removed\"} 10"), std::string::npos);
  EXPECT_NE(agent_->ctl({"history", "web"}).text.find("10 connections reset: removed"), std::string::npos);
}

TEST_F(DrainTest, an_operator_drains_an_endpoint_over_a_restart_and_takes_it_back) {
  const std::string drained = hosts_[0]->v4(8080);
  const Output output = agent_->ctl({"drain", "web", drained, "--timeout", "0", "--wait"});
  EXPECT_EQ(output.code, 0) << output.text << output.errors;
  expect_half_aborted();
  EXPECT_EQ(eligibility(drained), "draining");
  EXPECT_EQ(agent_->share("web", drained), 0);
  EXPECT_TRUE(eventually(seconds(5), [&] { return std::filesystem::exists(agent_->state_folder() + "/drains.json"); }));

  ASSERT_TRUE(agent_->terminate());
  agent_->start_healthy();
  EXPECT_EQ(eligibility(drained), "draining");
  EXPECT_TRUE(eventually(seconds(5), [&] { return drain_of(drained)["ordered"] == true; }));

  EXPECT_EQ(agent_->ctl({"drain", "web", drained, "--undo"}).code, 0);
  EXPECT_TRUE(eventually(seconds(5), [&] { return eligibility(drained) == "eligible"; }));
  EXPECT_EQ(agent_->ctl({"drain", "web", drained, "--undo"}).code, 4);
  EXPECT_EQ(agent_->ctl({"drain", "web", "10.9.9.9:80"}).code, 4);
  EXPECT_EQ(holder_->shared->open, kConnections / 2);
}

class DownTest : public DrainTest {
 protected:
  /// Puts a probe on the service; the first endpoint is down when this returns.
  void take_first_down(const std::string& policy) {
    agent_->reconfigure(body(endpoints(8080),
                             "probe: {type: http, path: /healthz, interval: 200ms, timeout: 200ms, rise: 1, fall: 1, "
                             "jitter: 0}, panic_threshold: 0, " +
                                 policy));
    ASSERT_TRUE(eventually(seconds(10), [&] { return agent_->json({"status"})["probes"]["up"] == 2; }));
    servers_[0]->answer_with(503);
    ASSERT_TRUE(eventually(seconds(10), [&] { return eligibility(hosts_[0]->v4(8080)) != "eligible"; }));
  }
};

TEST_F(DownTest, on_down_reset_ends_exactly_the_connections_of_an_endpoint_that_stays_down) {
  take_first_down("on_down: reset, reset_after: 1s, ");
  expect_half_aborted();
  EXPECT_TRUE(eventually(seconds(5), [&] {
    return agent_->http("/metrics").find("mesh_connections_reset_total{reason=\"down\"} 10") != std::string::npos;
  }));
  EXPECT_NE(agent_->ctl({"history", "web"}).text.find("10 connections reset: down"), std::string::npos);
}

TEST_F(DownTest, an_endpoint_that_is_back_in_time_keeps_its_connections) {
  take_first_down("on_down: reset, reset_after: 4s, ");
  const std::string endpoint = hosts_[0]->v4(8080);
  EXPECT_TRUE(eventually(seconds(3), [&] { return drain_of(endpoint)["reason"] == "down"; }));
  servers_[0]->answer_with(200);
  ASSERT_TRUE(eventually(seconds(3), [&] { return eligibility(endpoint) == "eligible"; }));
  EXPECT_FALSE(eventually(seconds(5), [&] { return holder_->shared->aborted > 0; }));
  EXPECT_EQ(holder_->shared->open, kConnections);
}

TEST_F(DownTest, by_default_connections_to_an_endpoint_that_is_down_stay) {
  take_first_down("");
  EXPECT_FALSE(eventually(seconds(3), [&] { return holder_->shared->aborted > 0; }));
  EXPECT_EQ(holder_->shared->open, kConnections);
}

TEST_F(DrainTest, connections_beyond_their_age_end_a_few_at_a_time) {
  agent_->reconfigure(body(endpoints(8080), "max_connection_age: 1s, "));
  EXPECT_TRUE(eventually(seconds(20), [&] { return holder_->shared->aborted >= 3; })) << holder_->shared->aborted;
  EXPECT_EQ(holder_->shared->other, 0);
  EXPECT_EQ(holder_->shared->open + holder_->shared->aborted, kConnections);
  EXPECT_NE(agent_->http("/metrics").find("mesh_connections_reset_total{reason=\"age\"}"), std::string::npos);
  EXPECT_NE(agent_->ctl({"history", "web"}).text.find("reset: age"), std::string::npos);
  // With one endpoint in use they would only come back to it.
  agent_->reconfigure(
      body("[{address: \"" + hosts_[1]->v4(8080) + "\"}]", "drain_timeout: never, max_connection_age: 1s, "));
  ASSERT_TRUE(eventually(seconds(10), [&] { return !drain_of(hosts_[0]->v4(8080)).is_null(); }));
  const int aborted = holder_->shared->aborted;
  EXPECT_FALSE(eventually(seconds(4), [&] { return holder_->shared->aborted > aborted + 1; })) << "one was under way";
}

/// A connection inside a namespace that its process has left again: only the sockets keep it.
int leave_a_namespace_behind(std::atomic<bool>& ready) {
  const int home = ::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (::unshare(CLONE_NEWNET) != 0) return 1;
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  const sockaddr_in address = to_v4(fmt::format("127.0.0.1:{}", kLocalPort).c_str());
  if (::ioctl(server, SIOCSIFFLAGS, &request) != 0 ||
      ::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 || ::listen(server, 4) != 0 ||
      connect_tcp(kLocalVip) < 0 || ::setns(home, CLONE_NEWNET) != 0) {
    return 1;
  }
  ready = true;
  for (;;) ::pause();
}

TEST_F(DrainTest, connections_in_a_namespace_that_cannot_be_entered_are_reported) {
  const auto ready = make_shared_memory<std::atomic<bool>>();
  const Process process = Process::start(app(), [&] { return leave_a_namespace_behind(*ready); });
  ASSERT_TRUE(eventually(seconds(10), [&] { return ready->load(); }));
  ASSERT_EQ(agent_->ctl({"drain", "local", "127.0.0.1", "--timeout", "0"}).code, 0);
  Json unreachable;
  EXPECT_TRUE(eventually(seconds(10), [&] {
    unreachable = agent_->json({"drain", "--list"})["unreachable"];
    return unreachable.size() == 1;
  }));
  EXPECT_EQ(unreachable[0]["pid"], process.pid());
  EXPECT_EQ(unreachable[0]["connections"], 1);
  EXPECT_EQ(agent_->ctl({"drain", "--list"}).code, 3);
  EXPECT_NE(agent_->log().find("can't be entered"), std::string::npos);
  EXPECT_EQ(holder_->shared->open, kConnections);
}

}  // namespace
}  // namespace mesh::test
