// SPDX-License-Identifier: Apache-2.0
// The ZooKeeper client against a real server, with kazoo and Curator as those who register, and against what is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "discovery/zookeeper.hpp"
#include "tests/support/fake_feed.hpp"
#include "tests/support/zookeeper_bytes.hpp"
#include "tests/support/zookeeper_server.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using test::Process;
using test::ZookeeperServer;
using Said = FakeFeed::Said;

std::string nerve(const std::string& host) { return R"({"host":")" + host + R"(","port":8080,"name":"n"})"; }

class ZookeeperClientTest : public testing::Test {
 protected:
  ZookeeperClientTest() : folder_("/tmp/zookeeper-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
    settings_.session_timeout = 2s;
    settings_.services = {rule("orders")};
  }
  ~ZookeeperClientTest() override {
    stop();
    server_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }

  static ZookeeperRule rule(std::string match, ZookeeperLayout layout = ZookeeperLayout::kNerve,
                            std::string path = "/nerve") {
    ZookeeperRule one;
    one.match = std::move(match);
    one.layout = layout;
    one.path = std::move(path);
    return one;
  }
  /// Runs the client as its source does: again after an error, soon.
  void start() {
    thread_ = std::thread([this] {
      ZookeeperRegistry registry(settings_, {.source = "zookeeper", .policy = {}, .here = {}, .known = {}, .seed = 7});
      while (!feed_.stopping()) {
        if (const auto ended = registry.run(feed_); !ended) feed_.report(ended.error());
        feed_.wait(50ms);
      }
    });
  }
  void stop() {
    feed_.stop();
    if (thread_.joinable()) thread_.join();
  }

  /// "10.0.0.1 w1 10.0.0.2 w0 draining" of the service of that name.
  static std::string here(const Said& said, const std::string& name) {
    const model::Service* const service = said.find(name);
    if (service == nullptr) return "no service";
    std::string text;
    for (const model::Endpoint& one : service->endpoints) {
      text += (text.empty() ? "" : " ") + one.address.ip.to_string() + " w" + std::to_string(one.weight) +
              (one.draining ? " draining" : "");
    }
    return text;
  }
  void expect(const std::string& name, const std::string& expected) {
    const bool good = feed_.wait_until([&](const Said& said) { return here(said, name) == expected; }, 30s);
    EXPECT_TRUE(good) << name << " has " << here(feed_.said(), name) << ", wanted " << expected << last_error();
  }
  std::string last_error() {
    const Said said = feed_.said();
    return said.reported.empty() ? "" : "; last error: " + said.reported.back().to_string();
  }
  /// Waits for an error after `mark` of which the text has `part`.
  bool trouble(const Said& mark, const std::string& part) {
    return feed_.wait_until(
        [&](const Said& said) {
          for (std::size_t i = mark.reported.size(); i < said.reported.size(); ++i) {
            if (said.reported[i].to_string().contains(part)) return true;
          }
          return false;
        },
        30s);
  }
  /// Since `mark` nothing was published without this endpoint.
  void expect_kept(const Said& mark, const std::string& name, const std::string& endpoint) {
    const Said said = feed_.said();
    for (std::size_t i = mark.published.size(); i < said.published.size(); ++i) {
      Said one;
      one.published = {said.published[i]};
      EXPECT_THAT(here(one, name), testing::HasSubstr(endpoint)) << "the trouble took something away";
    }
  }

  std::string folder_;
  std::optional<ZookeeperServer> server_;
  ZookeeperSettings settings_;
  FakeFeed feed_{FakeFeed::Waits::kTakeTheirTime};
  std::thread thread_;
};

class ZookeeperSourceTest : public ZookeeperClientTest {
 protected:
  void SetUp() override {
    if (const std::string why = ZookeeperServer::unavailable(); !why.empty()) GTEST_SKIP() << why;
    server_.emplace(ZookeeperServer::Where{.folder = folder_});
    settings_.servers = {server_->address()};
  }
  void expect_recovery(const Said& mark) {
    server_->set("/nerve/orders/late", nerve("10.0.0.9"));
    expect("orders", "10.0.0.1 w1 10.0.0.9 w1");
    expect_kept(mark, "orders", "10.0.0.1 w1");
  }
};

TEST_F(ZookeeperSourceTest, follows_instances_and_services_as_kazoo_changes_them) {
  settings_.services = {rule("all")};
  start();
  EXPECT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); })) << last_error();
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  expect("orders", "10.0.0.1 w1");
  server_->set("/nerve/orders/b", nerve("10.0.0.2"));
  server_->set("/nerve/pay/a", nerve("10.0.1.1"));
  expect("pay", "10.0.1.1 w1");
  expect("orders", "10.0.0.1 w1 10.0.0.2 w1");
  server_->set("/nerve/orders/a", R"({"host":"10.0.0.1","port":8080,"weight":7})");
  expect("orders", "10.0.0.1 w7 10.0.0.2 w1");
  server_->remove("/nerve/orders/a");
  expect("orders", "10.0.0.2 w1");
  server_->remove("/nerve");
  expect("orders", "no service");
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  expect("orders", "10.0.0.1 w1");
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
}

TEST_F(ZookeeperSourceTest, a_quiet_server_confirms_what_is_known_and_a_stop_takes_no_time) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  start();
  expect("orders", "10.0.0.1 w1");
  const Said mark = feed_.said();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed >= mark.confirmed + 3; }, 20s));
  EXPECT_EQ(feed_.said().published.size(), mark.published.size());
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
  const auto before = base::steady_now();
  stop();
  EXPECT_LT(base::steady_now() - before, 1s);
}

TEST_F(ZookeeperSourceTest, layouts_of_dubbo_and_server_sets_below_a_chroot) {
  settings_.chroot = "/prod";
  settings_.services = {rule("com.shop.*", ZookeeperLayout::kDubbo, ""),
                        rule("web", ZookeeperLayout::kServerSet, "/sets")};
  start();
  const std::string url = "/prod/dubbo/com.shop.Orders/providers/dubbo%3A%2F%2F10.0.0.3%3A20880%2Fcom.shop.Orders%3F";
  server_->set(url + "weight%3D30", "");
  server_->set("/prod/sets/web/member_0000000001",
               R"({"serviceEndpoint":{"host":"10.0.0.4","port":80},"additionalEndpoints":{},"status":"ALIVE"})");
  expect("com.shop.orders", "10.0.0.3 w30");
  expect("web", "10.0.0.4 w1");
  server_->remove(url + "weight%3D30");
  server_->set(url + "disabled%3Dtrue", "");
  expect("com.shop.orders", "10.0.0.3 w100 draining");
}

TEST_F(ZookeeperSourceTest, an_ephemeral_instance_goes_with_its_session) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  Process holder = server_->hold("/nerve/orders/b", nerve("10.0.0.2"), 2);
  start();
  expect("orders", "10.0.0.1 w1 10.0.0.2 w1");
  holder.signal(SIGSTOP);
  expect("orders", "10.0.0.1 w1");
  holder.kill();
}

TEST_F(ZookeeperSourceTest, folders_that_are_deleted_are_found_again) {
  settings_.services = {rule("orders"), rule("all", ZookeeperLayout::kNerve, "/box")};
  start();
  for (const std::string round : {"1", "2"}) {
    server_->kazoo("zk.create('/nerve/orders/a', b'''" + nerve("10.0.0." + round) +
                   "''', makepath=True)\n"
                   "zk.create('/box/pay/a', b'''" +
                   nerve("10.0.1." + round) + "''', makepath=True)");
    expect("orders", "10.0.0." + round + " w1");
    expect("pay", "10.0.1." + round + " w1");
    server_->kazoo("zk.delete('/nerve', recursive=True); zk.delete('/box', recursive=True)");
    expect("orders", "");
    expect("pay", "no service");
  }
  EXPECT_TRUE(feed_.said().reported.empty()) << last_error();
}

TEST_F(ZookeeperSourceTest, a_killed_server_takes_nothing_away_and_recovers) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  start();
  expect("orders", "10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->stop();
  EXPECT_TRUE(trouble(mark, "Connection refused")) << last_error();
  server_->start();
  expect_recovery(mark);
}

TEST_F(ZookeeperSourceTest, a_server_that_hangs_is_noticed_and_its_expired_session_is_nothing_special) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  start();
  expect("orders", "10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->process().signal(SIGSTOP);
  EXPECT_TRUE(trouble(mark, "no answer for")) << last_error();
  EXPECT_TRUE(trouble(mark, "wait for the welcome")) << last_error();
  server_->process().signal(SIGCONT);
  expect_recovery(mark);
}

TEST_F(ZookeeperSourceTest, an_ensemble_that_came_back_empty_is_believed_after_it_was_noticed) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  start();
  expect("orders", "10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->wipe();
  server_->start();
  EXPECT_TRUE(trouble(mark, "lags behind")) << last_error();
  expect("orders", "");
  server_->set("/nerve/orders/a", nerve("10.0.0.2"));
  expect("orders", "10.0.0.2 w1");
}

TEST_F(ZookeeperSourceTest, the_next_server_is_asked_when_one_is_away) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  settings_.servers = {"127.0.0.1:1", "localhost:2", server_->address()};
  start();
  expect("orders", "10.0.0.1 w1");
}

TEST_F(ZookeeperSourceTest, digest_opens_what_others_may_not_read) {
  server_->kazoo("zk.create('/nerve/orders/a', b'''" + nerve("10.0.0.1") +
                 "''', makepath=True)\nzk.set_acls('/nerve/orders', [make_digest_acl('reader', 'secret', all=True)])");
  settings_.auth_file = folder_ + "/auth";
  std::ofstream(settings_.auth_file) << "reader:wrong\n";
  start();
  EXPECT_TRUE(trouble({}, "read children of /nerve/orders in ZooKeeper: no permission")) << last_error();
  EXPECT_THAT(feed_.said().left_alone, testing::Contains(std::chrono::milliseconds(30s)))
      << "passwords are not tried quickly";
  std::ofstream(settings_.auth_file) << "reader:secret\n";
  expect("orders", "10.0.0.1 w1");
}

TEST_F(ZookeeperSourceTest, garbage_and_large_nodes_are_left_out_and_named) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  server_->kazoo(
      "zk.create('/nerve/orders/garbage', bytes(range(256)))\n"
      "zk.create('/nerve/orders/large', b'x' * 1000000)\n"
      "zk.create('/nerve/orders/b', b'{\"host\":\"10.0.0.2\",\"port\":80,\"more\":\"' + b'y' * 1000000 + b'\"}')");
  start();
  expect("orders", "10.0.0.1 w1 10.0.0.2 w1");
  EXPECT_TRUE(trouble({}, "/nerve/orders/garbage in ZooKeeper: not a JSON object")) << last_error();
  EXPECT_TRUE(trouble({}, "/nerve/orders/large in ZooKeeper: not a JSON object")) << last_error();
}

TEST_F(ZookeeperSourceTest, an_answer_beyond_the_limit_names_limit_and_path) {
  server_->set("/nerve/orders/a", nerve("10.0.0.1"));
  settings_.jute_maxbuffer = 64 << 10;
  start();
  expect("orders", "10.0.0.1 w1");
  const Said mark = feed_.said();
  server_->kazoo("zk.create('/nerve/orders/large', b'x' * 100000)");
  EXPECT_TRUE(trouble(mark, "jute_maxbuffer (65536)")) << last_error();
  EXPECT_TRUE(trouble(mark, "/nerve/orders/large")) << last_error();
  server_->remove("/nerve/orders/large");
  expect_recovery(mark);
}

TEST_F(ZookeeperSourceTest, a_thousand_services_with_five_thousand_instances) {
  server_->kazoo(R"(
pending = [zk.create_async('/nerve/s%d/n%d' % (i, j), b'{"host":"10.%d.%d.%d","port":80}' % (j, i // 250, i % 250 + 1), makepath=True)
           for i in range(1000) for j in range(5)]
for one in pending: one.get()
)");
  settings_.services = {rule("all")};
  start();
  EXPECT_TRUE(feed_.wait_until([](const Said& said) { return !said.published.empty(); }, 60s)) << last_error();
  const Said said = feed_.said();
  ASSERT_EQ(said.published[0].size(), 1000U) << "the first update is whole";
  EXPECT_TRUE(std::ranges::all_of(said.published[0], [](const auto& one) { return one.endpoints.size() == 5; }));
}

TEST_F(ZookeeperSourceTest, a_service_that_registers_with_curator) {
  if (const std::string why = ZookeeperServer::curator_unavailable(); !why.empty()) GTEST_SKIP() << why;
  settings_.services = {rule("all", ZookeeperLayout::kCurator, "")};
  start();
  Process first = server_->curator({"Orders", "10.0.0.1", "8080", "meshd-weight=7", "instance_status=UP"});
  expect("orders", "10.0.0.1 w7");
  Process second = server_->curator({"Orders", "10.0.0.2", "8080", "instance_status=OUT_OF_SERVICE"});
  expect("orders", "10.0.0.1 w7 10.0.0.2 w1 draining");
  second.signal(SIGTERM);
  expect("orders", "10.0.0.1 w7");
  // Curator's own folder is a container: the server deletes it some time after its last instance.
  first.signal(SIGTERM);
  expect("orders", "no service");
  Process third = server_->curator({"Orders", "10.0.0.3", "8080"});
  expect("orders", "10.0.0.3 w1");
  // Registered again by Curator itself after its session expired.
  const Said mark = feed_.said();
  server_->stop();
  EXPECT_TRUE(trouble(mark, "Connection refused")) << last_error();
  server_->start();
  EXPECT_TRUE(feed_.wait_until([&](const Said& said) { return said.confirmed > mark.confirmed; }, 30s));
  expect("orders", "10.0.0.3 w1");
}

/// Listens, reads what a client says first, and answers with these bytes.
class FalseServer {
 public:
  explicit FalseServer(std::string bytes) : bytes_(std::move(bytes)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~FalseServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() {
    std::vector<base::Fd> open;
    while (true) {
      base::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd.valid()) return;
      std::array<char, 256> hello{};
      (void)::recv(fd.get(), hello.data(), hello.size(), 0);
      (void)::send(fd.get(), bytes_.data(), bytes_.size(), MSG_NOSIGNAL);
      open.push_back(std::move(fd));
    }
  }

  const std::string bytes_;
  base::Fd listener_;
  int port_ = 0;
  std::thread thread_;
};

struct Falsehood {
  const char* name;
  std::string bytes;
  const char* error;  ///< Part of the text.
};
class ZookeeperFalseServerTest : public ZookeeperClientTest, public testing::WithParamInterface<Falsehood> {};

TEST_P(ZookeeperFalseServerTest, is_named_and_nothing_is_published) {
  const FalseServer server(GetParam().bytes);
  settings_.servers = {server.address()};
  start();
  EXPECT_TRUE(trouble({}, GetParam().error)) << last_error();
  stop();
  EXPECT_TRUE(feed_.said().published.empty());
  EXPECT_EQ(feed_.said().confirmed, 0U);
}

using namespace test::jute;
INSTANTIATE_TEST_SUITE_P(
    All, ZookeeperFalseServerTest,
    testing::Values(Falsehood{"silent", "", "no answer"},
                    Falsehood{"web_server", "HTTP/1.1 400 Bad Request\r\n\r\n", "jute_maxbuffer"},
                    Falsehood{"tls", std::string("\x15\x03\x03\x00\x02\x02\x28", 7), "jute_maxbuffer"},
                    Falsehood{"short_welcome", framed("abc"), "not what it says"},
                    Falsehood{"half_welcome", welcome(4000).substr(0, 20), "no answer"},
                    Falsehood{"no_session", welcome(0), "gives no session"},
                    Falsehood{"silent_after_welcome", welcome(1000), "no answer for"},
                    Falsehood{"half_answer", welcome(1000) + framed(reply(1, 1, 0)).substr(0, 10), "no answer for"},
                    Falsehood{"unasked", welcome(4000) + framed(reply(77, 1, 0)), "what was not asked"},
                    Falsehood{"short_answer", welcome(4000) + framed("xx"), "not what it says"},
                    Falsehood{"negative_length", welcome(4000) + number<std::int32_t>(-5), "not what it says"},
                    Falsehood{"large_answer", welcome(4000) + number<std::int32_t>(0x7fffffff), "jute_maxbuffer"},
                    Falsehood{"wrong_count",
                              welcome(4000) + framed(reply(1, 1, 0, number<std::int32_t>(0x7fffffff) + "abc")),
                              "not what it says"},
                    Falsehood{"other_error", welcome(4000) + framed(reply(1, 1, -4)), "error -4"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace mesh::discovery
