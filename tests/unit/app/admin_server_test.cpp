// SPDX-License-Identifier: Apache-2.0
// The server over a real epoll loop in a thread of its own; clients are plain sockets of this thread. What belongs to
// the loop is looked at from the loop.
#include "app/admin_server.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "io/loop.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/fake_admin_backend.hpp"
#include "tests/support/fake_loop.hpp"
#include "tls/client.hpp"

namespace mesh::app {
namespace {

using base::Fd;

constexpr std::chrono::milliseconds kPatience{5000};

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "meshd-admin-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    auto choice = io::make_loop(io::LoopKind::kEpoll);
    ASSERT_TRUE(choice) << choice.error().to_string();
    loop_ = std::move(choice->loop);
    thread_ = std::thread([this] { loop_->run(); });
  }

  void TearDown() override {
    if (server_) stop();
    on_loop([&] { loop_->stop(); });
    thread_.join();
    server_.reset();
    loop_.reset();
    std::filesystem::remove_all(folder_);
  }

  base::Result<void> start(AdminServerOptions options = {}) {
    options.socket = folder_ + "/meshd.sock";
    options.socket_group = "";
    base::Result<void> result;
    on_loop([&] {
      server_ = std::make_unique<AdminServer>(*loop_, backend_, options);
      result = server_->start();
    });
    return result;
  }

  void stop() {
    std::promise<void> stopped;
    on_loop([&] { server_->stop([&] { stopped.set_value(); }); });
    EXPECT_EQ(stopped.get_future().wait_for(kPatience), std::future_status::ready);
  }

  /// Runs `work` on the loop's thread and waits for it.
  void on_loop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_->post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  /// Until `condition`, asked on the loop, holds.
  void await(const std::function<bool()>& condition) {
    const auto deadline = base::steady_now() + kPatience;
    for (bool holds = false; !holds && base::steady_now() < deadline; std::this_thread::yield()) {
      on_loop([&] { holds = condition(); });
    }
  }

  AdminCounters counters() {
    AdminCounters copy;
    on_loop([&] { copy = server_->counters(); });
    return copy;
  }

  Fd connect_unix() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (folder_ + "/meshd.sock").c_str());
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }

  Fd connect_tcp() {
    sockaddr_storage storage;
    const socklen_t length = server_->metrics_address().to_sockaddr(storage);
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length), 0);
    return fd;
  }

  static void write(const Fd& fd, std::string_view text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

  /// All that comes until the server closes.
  static std::string read(const Fd& fd) {
    std::string text;
    char buffer[65536];
    while (true) {
      pollfd ready{fd.get(), POLLIN, 0};
      if (::poll(&ready, 1, static_cast<int>(kPatience.count())) <= 0) {
        ADD_FAILURE() << "the server did not close";
        return text;
      }
      const ssize_t count = ::recv(fd.get(), buffer, sizeof(buffer), 0);
      if (count <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(count));
    }
  }

  static std::string exchange(const Fd& fd, std::string_view request) {
    write(fd, request);
    return read(fd);
  }

  std::string folder_;
  test::FakeAdminBackend backend_;
  std::unique_ptr<io::Loop> loop_;
  std::thread thread_;
  std::unique_ptr<AdminServer> server_;
};

constexpr const char* kClose = "Host: x\r\nConnection: close\r\n\r\n";

TEST_F(AdminServerTest, answers_on_the_unix_socket_and_removes_it_at_the_end) {
  ASSERT_TRUE(start());
  struct stat status{};
  ASSERT_EQ(::stat((folder_ + "/meshd.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U) << "no group: root only";
  const std::string text = exchange(connect_unix(), std::string("GET /v1/status HTTP/1.1\r\n") + kClose);
  EXPECT_EQ(text.find("HTTP/1.1 200 OK\r\n"), 0U) << text;
  EXPECT_NE(text.find(R"("kind":"Status","state":"healthy")"), std::string::npos);
  stop();
  EXPECT_NE(::stat((folder_ + "/meshd.sock").c_str(), &status), 0);
}

TEST_F(AdminServerTest, keeps_the_connection_and_answers_pipelined_requests_in_order) {
  ASSERT_TRUE(start());
  const Fd client = connect_unix();
  const std::string text = exchange(client, std::string("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                                                        "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                                                        "HEAD /v1/status HTTP/1.1\r\n") +
                                                kClose);
  const auto first = text.find("200 OK");
  const auto second = text.find("404 Not Found");
  const auto third = text.rfind("200 OK");
  EXPECT_TRUE(first < second && second < third && third != std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\n\r\n")) << "HEAD has no body";
  EXPECT_EQ(counters().requests, 3U);
  EXPECT_EQ(counters().errors, 1U);
}

TEST_F(AdminServerTest, a_request_may_arrive_byte_by_byte) {
  ASSERT_TRUE(start());
  const Fd client = connect_unix();
  for (const char character : std::string("GET /livez HTTP/1.1\r\n") + kClose) {
    write(client, {&character, 1});
    on_loop([] {});
  }
  const std::string text = read(client);
  EXPECT_NE(text.find("200 OK"), std::string::npos) << text;
}

TEST_F(AdminServerTest, broken_http_and_large_requests_are_answered_and_counted) {
  ASSERT_TRUE(start());
  EXPECT_NE(exchange(connect_unix(), "NONSENSE\r\n\r\n").find("HTTP/1.1 400"), std::string::npos);
  const std::string big(kAdminHeaderBytes + 1, 'a');
  EXPECT_NE(exchange(connect_unix(), "GET /" + big + " HTTP/1.1\r\n\r\n").find("HTTP/1.1 431"), std::string::npos);
  EXPECT_NE(exchange(connect_unix(), "POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n")
                .find("HTTP/1.1 413"),
            std::string::npos);
  EXPECT_EQ(counters().malformed, 3U);
}

TEST_F(AdminServerTest, further_connections_than_the_limit_are_closed_and_counted) {
  ASSERT_TRUE(start());
  std::vector<Fd> clients;
  for (std::size_t i = 0; i < kAdminConnectionsMax; ++i) {
    clients.push_back(connect_unix());
    await([&] { return server_->connections() == i + 1; });
  }
  const Fd one_more = connect_unix();
  EXPECT_EQ(read(one_more), "");
  EXPECT_EQ(counters().refused_connections, 1U);
  clients.clear();
  await([&] { return server_->connections() == 0; });
  EXPECT_NE(exchange(connect_unix(), std::string("GET /livez HTTP/1.1\r\n") + kClose).find("200 OK"),
            std::string::npos);
}

TEST_F(AdminServerTest, an_answer_that_comes_late_is_sent_and_one_for_a_gone_client_is_dropped) {
  ASSERT_TRUE(start());
  backend_.reload_is_late = true;
  const Fd client = connect_unix();
  write(client, std::string("POST /v1/reload HTTP/1.1\r\nContent-Length: 0\r\n") + kClose);
  await([&] { return static_cast<bool>(backend_.late_reload); });
  on_loop([&] { std::exchange(backend_.late_reload, nullptr)(api::ReloadView{.ok = true, .services = 9}); });
  const std::string text = read(client);
  EXPECT_NE(text.find(R"("services":9)"), std::string::npos) << text;

  Fd gone = connect_unix();
  write(gone, std::string("POST /v1/reload HTTP/1.1\r\nContent-Length: 0\r\n") + kClose);
  await([&] { return static_cast<bool>(backend_.late_reload); });
  gone.reset();
  stop();
  on_loop([&] { std::exchange(backend_.late_reload, nullptr)(api::ReloadView{}); });
}

TEST_F(AdminServerTest, a_large_answer_reaches_a_slow_reader_whole) {
  backend_.metrics_text = std::string(4U << 20, 'm');
  ASSERT_TRUE(start());
  const std::string text = exchange(connect_unix(), std::string("GET /metrics HTTP/1.1\r\n") + kClose);
  EXPECT_TRUE(text.ends_with(backend_.metrics_text));
}

TEST_F(AdminServerTest, stopping_closes_clients_that_wait) {
  ASSERT_TRUE(start());
  const Fd idle = connect_unix();
  await([&] { return server_->connections() == 1; });
  stop();
  EXPECT_EQ(read(idle), "");
}

TEST_F(AdminServerTest, a_second_server_at_the_same_path_is_refused_and_a_dead_ones_socket_is_replaced) {
  ASSERT_TRUE(start());
  AdminServer second(*loop_, backend_, {.socket = folder_ + "/meshd.sock"});
  const auto refused = second.start();  // binds nothing, so it needs no loop
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, base::ErrorKind::kConflict);
  stop();
  // what kill -9 leaves: a socket file that nobody listens at
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (folder_ + "/meshd.sock").c_str());
  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  const auto started = start();
  EXPECT_TRUE(started) << started.error().to_string();
}

TEST_F(AdminServerTest, the_metrics_listener_needs_a_token_where_strangers_reach_it) {
  const auto refused = start({.metrics_listen = "0.0.0.0:0"});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().remedy.find("agent.metrics.token_file"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/meshd.sock")) << "refused as a whole";

  std::ofstream(folder_ + "/empty") << "\n";
  EXPECT_FALSE(start({.metrics_listen = "0.0.0.0:0", .metrics_token_file = folder_ + "/empty"}));

  std::ofstream(folder_ + "/token") << "s3cret\n";
  const auto started = start({.metrics_listen = "0.0.0.0:0", .metrics_token_file = folder_ + "/token"});
  ASSERT_TRUE(started) << started.error().to_string();
  const std::string get = "GET /metrics HTTP/1.1\r\n";
  EXPECT_NE(exchange(connect_tcp(), get + kClose).find("HTTP/1.1 401"), std::string::npos);
  EXPECT_NE(exchange(connect_tcp(), get + "Authorization: Bearer s3creT\r\n" + kClose).find("HTTP/1.1 401"),
            std::string::npos);
  EXPECT_NE(exchange(connect_tcp(), get + "Authorization: Bearer s3cret\r\n" + kClose).find("mesh_up 1"),
            std::string::npos);
  EXPECT_EQ(counters().denied, 2U);
}

TEST_F(AdminServerTest, the_loopback_listener_shows_metrics_but_not_the_api) {
  ASSERT_TRUE(start({.metrics_listen = "127.0.0.1:0"}));
  EXPECT_NE(exchange(connect_tcp(), std::string("GET /metrics HTTP/1.1\r\n") + kClose).find("version=0.0.4"),
            std::string::npos);
  EXPECT_NE(exchange(connect_tcp(), std::string("GET /v1/status HTTP/1.1\r\n") + kClose).find("HTTP/1.1 403"),
            std::string::npos);
}

class AdminTlsTest : public AdminServerTest {
 protected:
  void SetUp() override {
    AdminServerTest::SetUp();
    const auto pem = test::make_certificate("metrics.test", std::chrono::system_clock::now() + std::chrono::hours(1));
    std::ofstream(folder_ + "/cert.pem") << pem.certificate;
    std::ofstream(folder_ + "/key.pem") << pem.key;
    auto opened = CertificateKeeper::open({folder_ + "/cert.pem", folder_ + "/key.pem"});
    ASSERT_TRUE(opened) << opened.error().to_string();
    keeper_ = std::move(*opened);
    const auto started = start({.metrics_listen = "0.0.0.0:0", .metrics_certificate = keeper_.get()});
    ASSERT_TRUE(started) << "TLS does where strangers reach it: " << started.error().to_string();
  }

  /// What a TLS client reads until the server closes; sends `piece` bytes at a time.
  std::string exchange_tls(std::string_view request, std::size_t piece) {
    const Fd fd = connect_tcp();
    tls::ClientSession session(*tls::ClientContext::make({.ca_file = folder_ + "/cert.pem"}), "metrics.test");
    std::string plain;
    bool asked = false;
    while (session.state() != tls::Session::State::kFailed) {
      while (!session.output().empty()) {
        const auto bytes = session.output().first(std::min(piece, session.output().size()));
        EXPECT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
        session.sent(bytes.size());
      }
      if (session.state() == tls::Session::State::kOpen && !std::exchange(asked, true)) {
        session.write(std::as_bytes(std::span(request)));
        continue;
      }
      std::array<std::byte, 65536> buffer;
      const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
      if (count <= 0) break;
      session.feed(std::span(buffer).first(static_cast<std::size_t>(count)), plain);
    }
    EXPECT_EQ(session.error(), "");
    return plain;
  }

  std::unique_ptr<CertificateKeeper> keeper_;
};

TEST_F(AdminTlsTest, metrics_are_read_over_tls_also_byte_by_byte) {
  const std::string get = std::string("GET /metrics HTTP/1.1\r\n") + kClose;
  EXPECT_NE(exchange_tls(get, ~std::size_t{0}).find("mesh_up 1"), std::string::npos);
  EXPECT_NE(exchange_tls(get, 1).find("mesh_up 1"), std::string::npos);
}

TEST_F(AdminTlsTest, a_long_answer_arrives_whole) {
  backend_.metrics_text = std::string(10 * tls::kOutputBytes + 1, 'm');
  const std::string answer = exchange_tls(std::string("GET /metrics HTTP/1.1\r\n") + kClose, ~std::size_t{0});
  EXPECT_TRUE(answer.ends_with("\r\n\r\n" + backend_.metrics_text)) << answer.size();
}

TEST_F(AdminTlsTest, a_client_without_tls_is_sent_away_and_counted) {
  EXPECT_EQ(exchange(connect_tcp(), std::string("GET /metrics HTTP/1.1\r\n") + kClose).find("mesh_up"),
            std::string::npos);
  EXPECT_EQ(counters().tls, 1U);
  EXPECT_EQ(counters().requests, 0U);
}

TEST_F(AdminTlsTest, a_handshake_has_one_deadline_however_its_bytes_trickle) {
  tls::ClientSession client(*tls::ClientContext::make({.ca_file = folder_ + "/cert.pem"}), "metrics.test");
  for (const bool trickles : {false, true}) {
    io::FakeLoop loop;
    loop.script = [&](const io::FakeLoop::Call& call) -> std::optional<io::FakeLoop::Answer> {
      if (!trickles) return std::nullopt;
      call.receive_buffer.front() = client.output().front();
      client.sent(1);
      return io::FakeLoop::Answer{.result = 1, .delay = std::chrono::milliseconds(300)};
    };
    AdminCounters counted;
    AdminConnectionContext context{loop, backend_, counted, "", keeper_.get()};
    bool closed = false;
    const auto connection = std::make_shared<AdminConnection>(context, ::socket(AF_UNIX, SOCK_STREAM, 0), Caller{},
                                                              [&](AdminConnection*) { closed = true; });
    connection->start();
    loop.advance(kAdminHandshakeDeadline - std::chrono::milliseconds(1));
    EXPECT_FALSE(closed);
    loop.advance(std::chrono::milliseconds(1));
    EXPECT_TRUE(closed) << trickles;
    EXPECT_EQ(counted.timeouts, 1U);
  }
}

TEST(Access, comes_from_uid_and_groups) {
  const gid_t groups[] = {7, 8};
  EXPECT_EQ(access_for(0, 0, {}, kNoGroup), Access::kChange);
  EXPECT_EQ(access_for(1000, 5, groups, 8), Access::kRead);
  EXPECT_EQ(access_for(1000, 8, {}, 8), Access::kRead);
  EXPECT_EQ(access_for(1000, 5, groups, 9), Access::kNone);
  EXPECT_EQ(access_for(1000, kNoGroup, {}, kNoGroup), Access::kNone) << "no such group is nobody's group";
}

}  // namespace
}  // namespace mesh::app
