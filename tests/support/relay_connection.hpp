// SPDX-License-Identifier: Apache-2.0
// A connection of the relay without a worker: sockets are pairs, time and readiness are the test's.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <map>
#include <set>

#include "relay/connection.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/fake_loop.hpp"
#include "tests/support/tls_client.hpp"

namespace mesh::test {

using namespace std::chrono_literals;

inline const base::SocketAddress kClient = *base::SocketAddress::parse("10.1.0.9:40000");

inline std::string receive_all(int fd) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

/// Whether the other end said that nothing more comes. Call after receive_all().
inline bool ended(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

class ConnectionTest : public ::testing::Test, public relay::ConnectionHost {
 protected:
  io::Loop& loop() override { return loop_; }
  base::Random& random() override { return random_; }
  std::span<std::byte> input_buffer() override { return input_; }
  std::span<std::byte> plain_buffer() override { return plain_; }
  std::expected<base::Fd, int> dial(const base::SocketAddress& backend) override {
    dialed_.push_back(backend.to_string());
    if (dial_fails_ != 0) return std::unexpected(dial_fails_);
    if (refusing_.contains(backend.to_string())) return std::unexpected(ECONNREFUSED);
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    backend_ = base::Fd(ends[1]);
    return base::Fd(ends[0]);
  }
  void wants_turn(relay::Connection& connection) override {
    loop_.post([&connection] { connection.go_on(); });
  }
  void ended(relay::Connection&) override { ++ended_; }

  /// A listener to a service with so many backends, 10.0.0.1:80 and on.
  std::shared_ptr<relay::Listener> make_listener(relay::Mode mode, int backends = 1) {
    auto listener = std::make_shared<relay::Listener>();
    listener->settings.name = "shop";
    listener->settings.mode = mode;
    listener->gate = std::make_shared<relay::Gate>();
    listener->gate->set_limits(listener->settings.limits);
    listener->stats = stats_;
    auto service = std::make_shared<model::Service>();
    service->algorithm = model::Algorithm::kRoundRobin;
    auto route = std::make_shared<model::ServiceRoute>();
    for (int i = 0; i < backends; ++i) {
      service->endpoints.push_back({.address = *base::SocketAddress::parse("10.0.0." + std::to_string(i + 1) + ":80")});
      route->routes.push_back({static_cast<std::uint32_t>(i), 1});
    }
    route->service = service;
    listener->fallback = std::make_shared<const relay::Target>(route, loads_, nullptr);
    if (mode == relay::Mode::kTerminate) {
      const auto pair = make_certificate("shop.test", std::chrono::system_clock::now() + 1h);
      tls::ServerOptions options;
      options.certificates = {*tls::Certificate::parse(pair.certificate, pair.key)};
      listener->tls = *tls::ServerContext::make(options, tls::Library::shared());
    }
    return listener;
  }

  /// The same for TLS that begins here, to backends with a certificate of shop.test.
  std::shared_ptr<relay::Listener> make_originating(int backends = 1) {
    auto listener = make_listener(relay::Mode::kOriginate, backends);
    const auto end = std::chrono::system_clock::now() + 1h;
    const auto authority = make_authority("authority", end);
    const auto pair = make_certificate_for("DNS:shop.test", end, &authority);
    tls::ServerOptions options;
    options.certificates = {*tls::Certificate::parse(pair.certificate, pair.key)};
    server_ = *tls::ServerContext::make(options, tls::Library::shared());
    tls::ClientContext::Options client;
    client.authorities = *tls::Authorities::parse(authority.certificate, "");
    listener->backend_tls = *tls::ClientContext::make(client);
    listener->backend_name = "shop.test";
    return listener;
  }

  /// What a backend that speaks TLS does with what came to it, until nothing more comes or another one is tried; what
  /// it decrypted.
  std::string serve(tls::ServerSession& server) {
    std::string plain;
    const std::size_t dialed = dialed_.size();
    const int over = ended_;
    for (int i = 0; i < 20 && dialed_.size() == dialed; ++i) {
      const std::string in = receive_all(backend_.get());
      server.feed(std::as_bytes(std::span(in)), plain);
      const auto out = server.output();
      const std::size_t size = out.size();
      if (size > 0 && ended_ == over) EXPECT_EQ(::send(backend_.get(), out.data(), size, MSG_NOSIGNAL), ssize_t(size));
      server.sent(size);
      step();
      if (in.empty() && size == 0) break;
    }
    return plain;
  }

  void connect(const std::shared_ptr<relay::Listener>& listener) {
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    client_ = base::Fd(ends[1]);
    ASSERT_FALSE(listener->gate->enter(loop_.now()));
    connection_ = std::make_unique<relay::Connection>(*this, listener, base::Fd(ends[0]), kClient);
    connection_->start();
    step();
  }
  void step() { loop_.tell_watches(); }

  /// Moves bytes between the TLS client and its socket until nothing more comes; returns what was decrypted.
  std::string talk(TlsClient& client) {
    std::string plain;
    for (int i = 0; i < 20; ++i) {
      const std::string out = client.take_output();
      if (!out.empty()) EXPECT_EQ(::send(client_.get(), out.data(), out.size(), MSG_NOSIGNAL), ssize_t(out.size()));
      step();
      const std::string in = receive_all(client_.get());
      plain += client.feed(std::as_bytes(std::span(in)));
      if (in.empty() && out.empty()) break;
    }
    return plain;
  }
  std::map<std::string, std::uint64_t> failed() const {
    std::map<std::string, std::uint64_t> sums;
    stats_->failed.add_to(sums);
    return sums;
  }
  std::map<std::string, std::uint64_t> endings() const {
    std::map<std::string, std::uint64_t> sums;
    stats_->ended.add_to(sums);
    return sums;
  }
  using Counts = std::map<std::string, std::uint64_t>;

  io::FakeLoop loop_;
  base::Random random_{1};
  std::vector<std::byte> input_ = std::vector<std::byte>(relay::kInputBytes);
  std::vector<std::byte> plain_ = std::vector<std::byte>(relay::kPlainBytes);
  relay::EndpointLoads loads_;
  std::shared_ptr<relay::ListenerStats> stats_ = std::make_shared<relay::ListenerStats>();
  std::vector<std::string> dialed_;
  std::set<std::string> refusing_;
  int dial_fails_ = 0;  ///< With this errno, whatever backend.
  base::Fd client_;
  base::Fd backend_;
  int ended_ = 0;
  std::unique_ptr<relay::Connection> connection_;
  std::shared_ptr<const tls::ServerContext> server_;
};

}  // namespace mesh::test
