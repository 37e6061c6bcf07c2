// SPDX-License-Identifier: Apache-2.0
#include "relay/connection.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <deque>
#include <set>

#include "relay/proxy_header.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/fake_loop.hpp"
#include "tests/support/tls_client.hpp"
#include "tls/private_key.hpp"

namespace mesh::relay {
namespace {

using namespace std::chrono_literals;

const base::SocketAddress kClient = *base::SocketAddress::parse("10.1.0.9:40000");

std::string receive_all(int fd) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

/// Whether the other end said that nothing more comes. Call after receive_all().
bool ended(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

class ConnectionTest : public ::testing::Test, public ConnectionHost {
 protected:
  io::Loop& loop() override { return loop_; }
  base::Random& random() override { return random_; }
  std::span<std::byte> input_buffer() override { return input_; }
  std::span<std::byte> plain_buffer() override { return plain_; }
  base::Fd dial(const base::SocketAddress& backend) override {
    dialed_.push_back(backend.to_string());
    if (refusing_.contains(backend.to_string())) return {};
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    backend_ = base::Fd(ends[1]);
    return base::Fd(ends[0]);
  }
  void wants_turn(Connection& connection) override {
    loop_.post([&connection] { connection.go_on(); });
  }
  void ended(Connection&) override { ++ended_; }

  /// A listener to a service with so many backends, 10.0.0.1:80 and on.
  std::shared_ptr<Listener> make_listener(Mode mode, int backends = 1) {
    auto listener = std::make_shared<Listener>();
    listener->settings.name = "shop";
    listener->settings.mode = mode;
    listener->gate = std::make_shared<Gate>();
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
    listener->fallback = std::make_shared<const Target>(route, nullptr);
    if (mode == Mode::kTerminate) {
      const auto pair = test::make_certificate("shop.test", std::chrono::system_clock::now() + 1h);
      tls::ServerOptions options;
      options.certificates = {*tls::Certificate::parse(pair.certificate, pair.key)};
      listener->tls = *tls::ServerContext::make(options, tls::Library::shared());
    }
    return listener;
  }

  /// The same for TLS that begins here, to backends with a certificate of shop.test.
  std::shared_ptr<Listener> make_originating(int backends = 1) {
    auto listener = make_listener(Mode::kOriginate, backends);
    const auto end = std::chrono::system_clock::now() + 1h;
    const auto authority = test::make_authority("authority", end);
    const auto pair = test::make_certificate_for("DNS:shop.test", end, &authority);
    tls::ServerOptions options;
    options.certificates = {*tls::Certificate::parse(pair.certificate, pair.key)};
    server_ = *tls::ServerContext::make(options, tls::Library::shared());
    tls::ClientContext::Options client;
    client.authorities = *tls::Authorities::parse(authority.certificate, "");
    listener->backend_tls = *tls::ClientContext::make(client);
    listener->backend_name = "shop.test";
    return listener;
  }
  std::string serve(tls::ServerSession& server);

  void connect(const std::shared_ptr<Listener>& listener) {
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    client_ = base::Fd(ends[1]);
    ASSERT_FALSE(listener->gate->enter(loop_.now()));
    connection_ = std::make_unique<Connection>(*this, listener, base::Fd(ends[0]), kClient);
    connection_->start();
    step();
  }
  void step() { loop_.tell_watches(); }

  /// Moves bytes between the TLS client and its socket until nothing more comes; returns what was decrypted.
  std::string talk(test::TlsClient& client) {
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
  std::vector<std::byte> input_ = std::vector<std::byte>(kInputBytes);
  std::vector<std::byte> plain_ = std::vector<std::byte>(kPlainBytes);
  std::shared_ptr<ListenerStats> stats_ = std::make_shared<ListenerStats>();
  std::vector<std::string> dialed_;
  std::set<std::string> refusing_;
  base::Fd client_;
  base::Fd backend_;
  int ended_ = 0;
  std::unique_ptr<Connection> connection_;
  std::shared_ptr<const tls::ServerContext> server_;
};

TEST_F(ConnectionTest, who_looks_at_a_challenge_gets_its_answer_and_no_backend) {
  const auto challenges = std::make_shared<tls::Challenges>();
  challenges->set("shop.test", tls::challenge_certificate("shop.test", tls::sha256("authorization"), base::wall_now()));
  const auto listener = make_listener(Mode::kTerminate);
  listener->tls = *tls::ServerContext::make({.challenges = challenges}, tls::Library::shared());
  connect(listener);
  test::TlsClient client({.server_name = "shop.test",
                          .alpn = "\x0a"
                                  "acme-tls/1"});
  EXPECT_EQ(talk(client), "");
  EXPECT_TRUE(client.peer_closed());
  EXPECT_EQ(dialed_, std::vector<std::string>{});
  EXPECT_EQ(failed(), Counts{});
  EXPECT_EQ(endings(), (Counts{{"acme challenge answered", 1}}));
  EXPECT_EQ(ended_, 1);
}

TEST_F(ConnectionTest, decrypts_to_the_backend_and_encrypts_to_the_client) {
  connect(make_listener(Mode::kTerminate));
  test::TlsClient client({.server_name = "shop.test"});
  EXPECT_EQ(talk(client), "");
  ASSERT_TRUE(client.open());
  EXPECT_EQ(dialed_, std::vector<std::string>{"10.0.0.1:80"});
  client.write("question");
  talk(client);
  EXPECT_EQ(receive_all(backend_.get()), "question");
  ASSERT_EQ(::send(backend_.get(), "answer", 6, 0), 6);
  EXPECT_EQ(talk(client), "answer");
  EXPECT_EQ(stats_->relayed, 1U);
  EXPECT_EQ(stats_->bytes_received, 8U);
  EXPECT_EQ(stats_->bytes_sent, 6U);
}

TEST_F(ConnectionTest, an_end_is_passed_on_and_the_other_direction_goes_on) {
  connect(make_listener(Mode::kTerminate));
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  client.write("all");
  client.close();
  talk(client);
  EXPECT_EQ(receive_all(backend_.get()), "all");
  EXPECT_TRUE(relay::ended(backend_.get()));
  ASSERT_EQ(::send(backend_.get(), "late answer", 11, 0), 11);
  EXPECT_EQ(talk(client), "late answer");
  EXPECT_EQ(ended_, 0);
  backend_.reset();
  talk(client);
  EXPECT_TRUE(client.peer_closed()) << "no close_notify";
  EXPECT_TRUE(relay::ended(client_.get()));
  EXPECT_EQ(endings(), (Counts{{"closed", 1}}));
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(loop_.watched(), 0U);
}

TEST_F(ConnectionTest, a_slow_reader_stops_the_backend_and_loses_nothing) {
  connect(make_listener(Mode::kTerminate));
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  std::string sent;
  std::string pattern(100'000, 'x');
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<char>('a' + i % 23);
  int blocked = 0;
  for (int round = 0; round < 200 && blocked < 3; ++round) {
    const ssize_t count = ::send(backend_.get(), pattern.data(), pattern.size(), MSG_DONTWAIT);
    if (count > 0) sent.append(pattern, 0, static_cast<std::size_t>(count));
    if (count <= 0) ++blocked;
    step();
  }
  EXPECT_EQ(blocked, 3) << "the relay takes any amount";
  const std::size_t before = stats_->bytes_sent;
  step();
  EXPECT_EQ(stats_->bytes_sent, before);
  std::string got;
  for (int round = 0; round < 1000 && got.size() < sent.size(); ++round) got += talk(client);
  EXPECT_TRUE(got == sent) << got.size() << " of " << sent.size();
}

TEST_F(ConnectionTest, single_bytes_make_a_handshake_too) {
  connect(make_listener(Mode::kTerminate));
  test::TlsClient client({.server_name = "shop.test"});
  for (int i = 0; i < 10 && !client.open(); ++i) {
    for (const char byte : client.take_output()) {
      ASSERT_EQ(::send(client_.get(), &byte, 1, 0), 1);
      step();
    }
    const std::string in = receive_all(client_.get());
    client.feed(std::as_bytes(std::span(in)));
  }
  talk(client);
  EXPECT_EQ(stats_->relayed, 1U);
}

TEST_F(ConnectionTest, another_backend_is_tried_when_one_cannot_be_reached) {
  refusing_ = {"10.0.0.1:80"};
  connect(make_listener(Mode::kTerminate, 2));
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  EXPECT_EQ(dialed_, (std::vector<std::string>{"10.0.0.1:80", "10.0.0.2:80"}));
  EXPECT_EQ(stats_->retries, 1U);
  EXPECT_EQ(stats_->relayed, 1U);
}

TEST_F(ConnectionTest, gives_up_when_no_backend_answers) {
  refusing_ = {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"};
  connect(make_listener(Mode::kTerminate, 5));
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  EXPECT_EQ(dialed_.size(), kDialsMax);
  EXPECT_EQ(failed(), (Counts{{"no backend answers", 1}}));
  EXPECT_EQ(connection_->listener()->gate->active(), 0U);
}

TEST_F(ConnectionTest, a_silent_client_is_cut_off) {
  auto listener = make_listener(Mode::kTerminate);
  connect(listener);
  loop_.advance(listener->settings.limits.handshake_timeout - 1ms);
  EXPECT_EQ(ended_, 0);
  loop_.advance(1ms);
  EXPECT_EQ(failed(), (Counts{{"handshake timeout", 1}}));
}

TEST_F(ConnectionTest, an_idle_connection_ends_after_its_last_byte) {
  auto listener = make_listener(Mode::kTerminate);
  listener->settings.limits.idle_timeout = 10s;
  connect(listener);
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  loop_.advance(9s);
  client.write("x");
  talk(client);
  loop_.advance(9s);
  EXPECT_EQ(ended_, 0);
  loop_.advance(1s);
  EXPECT_EQ(endings(), (Counts{{"idle", 1}}));
}

TEST_F(ConnectionTest, what_is_not_tls_is_refused_by_name) {
  connect(make_listener(Mode::kTerminate));
  ASSERT_EQ(::send(client_.get(), "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
  step();
  EXPECT_EQ(failed(), (Counts{{"tls: not_tls", 1}}));
}

TEST_F(ConnectionTest, passes_tls_through_by_the_name_in_the_hello) {
  auto listener = make_listener(Mode::kPassthrough);
  auto other = make_listener(Mode::kPassthrough, 2);
  ASSERT_TRUE(listener->names.add("*.cart.test", 0));
  listener->targets.push_back(other->fallback);
  connect(listener);
  test::TlsClient client({.server_name = "eu.cart.test"});
  const std::string hello = client.take_output();
  ASSERT_EQ(::send(client_.get(), hello.data(), 20, 0), 20);
  step();
  EXPECT_TRUE(dialed_.empty()) << "before the name was known";
  ASSERT_GT(::send(client_.get(), hello.data() + 20, hello.size() - 20, 0), 0);
  step();
  ASSERT_EQ(dialed_.size(), 1U);
  EXPECT_EQ(receive_all(backend_.get()), hello);
  ASSERT_EQ(::send(backend_.get(), "raw", 3, 0), 3);
  step();
  EXPECT_EQ(receive_all(client_.get()), "raw");
}

TEST_F(ConnectionTest, a_name_without_a_service_is_refused) {
  auto listener = make_listener(Mode::kPassthrough);
  listener->fallback.reset();
  connect(listener);
  const std::string hello = test::TlsClient({.server_name = "shop.test"}).take_output();
  ASSERT_GT(::send(client_.get(), hello.data(), hello.size(), 0), 0);
  step();
  EXPECT_EQ(failed(), (Counts{{"no service for this name", 1}}));
}

TEST_F(ConnectionTest, takes_and_sends_proxy_headers) {
  auto listener = make_listener(Mode::kTerminate);
  listener->settings.proxy_protocol = {.accept = true, .send = true};
  connect(listener);
  const auto source = *base::SocketAddress::parse("192.0.2.7:1234");
  const auto destination = *base::SocketAddress::parse("192.0.2.1:443");
  test::TlsClient client({.server_name = "shop.test"});
  const std::string first = encode(ProxyHeader{.source = source, .destination = destination}) + client.take_output();
  for (const char byte : first) {
    ASSERT_EQ(::send(client_.get(), &byte, 1, 0), 1);
    step();
  }
  talk(client);
  ASSERT_TRUE(client.open());
  client.write("question");
  talk(client);
  const std::string got = receive_all(backend_.get());
  const ProxyParse parsed = parse_proxy_header(std::as_bytes(std::span(got)));
  ASSERT_EQ(parsed.state, ProxyState::kHeader) << parsed.problem;
  EXPECT_EQ(parsed.header.source, source);
  EXPECT_EQ(parsed.header.destination, destination);
  EXPECT_EQ(parsed.header.authority, "shop.test");
  ASSERT_TRUE(parsed.header.tls);
  EXPECT_EQ(parsed.header.tls->version, "TLSv1.3");
  EXPECT_EQ(got.substr(parsed.size), "question");
}

TEST_F(ConnectionTest, without_a_proxy_header_where_one_is_wanted_nothing_is_relayed) {
  auto listener = make_listener(Mode::kTerminate);
  listener->settings.proxy_protocol.accept = true;
  connect(listener);
  const std::string hello = test::TlsClient({.server_name = "shop.test"}).take_output();
  ASSERT_GT(::send(client_.get(), hello.data(), hello.size(), 0), 0);
  step();
  ASSERT_EQ(failed().size(), 1U);
  EXPECT_TRUE(failed().begin()->first.starts_with("proxy header: ")) << failed().begin()->first;
}

/// What a backend that speaks TLS does with what came to it, until nothing more comes or another one is tried; what it
/// decrypted.
std::string ConnectionTest::serve(tls::ServerSession& server) {
  std::string plain;
  const std::size_t dialed = dialed_.size();
  for (int i = 0; i < 20 && dialed_.size() == dialed; ++i) {
    const std::string in = receive_all(backend_.get());
    server.feed(std::as_bytes(std::span(in)), plain);
    const auto out = server.output();
    const std::size_t size = out.size();
    if (size > 0) EXPECT_EQ(::send(backend_.get(), out.data(), size, MSG_NOSIGNAL), ssize_t(size));
    server.sent(size);
    step();
    if (in.empty() && size == 0) break;
  }
  return plain;
}

TEST_F(ConnectionTest, begins_tls_for_a_client_that_knows_nothing_of_it) {
  connect(make_originating());
  ASSERT_EQ(::send(client_.get(), "question", 8, 0), 8);
  tls::ServerSession server(server_);
  EXPECT_EQ(serve(server), "question");
  EXPECT_EQ(server.server_name(), "shop.test");
  EXPECT_EQ(server.write(std::as_bytes(std::span("answer", 6))), 6U);
  serve(server);
  EXPECT_EQ(receive_all(client_.get()), "answer");
  EXPECT_EQ(stats_->bytes_received, 8U);
  EXPECT_EQ(stats_->bytes_sent, 6U);
  // Half-close, and then the other half.
  ::shutdown(client_.get(), SHUT_WR);
  step();
  serve(server);
  EXPECT_EQ(server.state(), tls::Session::State::kClosed);
  EXPECT_EQ(server.write(std::as_bytes(std::span("late", 4))), 4U);
  server.finish();
  serve(server);
  ::shutdown(backend_.get(), SHUT_WR);
  step();
  EXPECT_EQ(receive_all(client_.get()), "late");
  EXPECT_TRUE(relay::ended(client_.get()));
  EXPECT_EQ(endings(), (Counts{{"closed", 1}}));
  EXPECT_EQ(failed(), Counts{});
}

TEST_F(ConnectionTest, a_backend_with_another_name_gets_no_byte_and_others_are_tried) {
  auto listener = make_originating(2);
  listener->backend_name = "cart.test";
  connect(listener);
  ASSERT_EQ(::send(client_.get(), "secret", 6, 0), 6);
  for (int i = 0; i < 2; ++i) {
    tls::ServerSession server(server_);
    EXPECT_EQ(serve(server), "") << "not a byte";
  }
  EXPECT_EQ(dialed_.size(), 2U);
  EXPECT_EQ(failed(), (Counts{{"certificate: name mismatch", 1}}));
  EXPECT_EQ(ended_, 1);
  char byte = 0;
  EXPECT_TRUE(::recv(client_.get(), &byte, 1, MSG_DONTWAIT) <= 0);
}

TEST_F(ConnectionTest, a_backend_that_speaks_no_tls_or_nothing_is_told_apart) {
  connect(make_originating());
  ASSERT_EQ(::send(backend_.get(), "SSH-2.0-OpenSSH\r\n", 17, 0), 17);
  step();
  EXPECT_EQ(failed(), (Counts{{"tls: not_tls", 1}}));
  auto listener = make_originating();
  connect(listener);
  loop_.advance(listener->settings.limits.handshake_timeout + 1s);
  EXPECT_EQ(failed(), (Counts{{"tls: not_tls", 1}, {"handshake timeout", 1}}));
  connect(make_originating());
  backend_.reset();
  step();
  EXPECT_EQ(failed().at("backend gave up"), 1U);
}

TEST_F(ConnectionTest, without_usable_files_nothing_is_sent) {
  auto listener = make_originating();
  listener->backend_tls.reset();
  connect(listener);
  EXPECT_EQ(dialed_.size(), 0U);
  EXPECT_EQ(failed(), (Counts{{"tls: its files are of no use", 1}}));
}

TEST_F(ConnectionTest, sources_have_their_limit) {
  auto listener = make_listener(Mode::kTerminate);
  listener->settings.limits.connections_per_source = 1;
  listener->gate->set_limits(listener->settings.limits);
  connect(listener);
  auto first = std::move(connection_);
  const base::Fd kept = std::move(client_);
  connect(listener);
  EXPECT_EQ(failed(), (Counts{{"limit: connections per source", 1}}));
  first->cut("stopped");
  connect(listener);
  EXPECT_EQ(failed(), (Counts{{"limit: connections per source", 1}, {"stopped", 1}}));
  EXPECT_EQ(listener->gate->active(), 1U);
}

/// Another node's relay, by hand: sockets of a pair have no address, so the destination is that of none.
class MeshConnectionTest : public ConnectionTest {
 protected:
  std::shared_ptr<Listener> make_mesh(const std::string& revoked = "") {
    auto listener = make_listener(Mode::kPassthrough);
    listener->settings = mesh_listener({.address = kClient});
    const auto own = test::make_svid("spiffe://a.test/node", in_an_hour(), authority_);
    tls::ServerOptions options{
        .tls12 = false, .alpn = {std::string(kMeshProtocol)}, .verify = tls::ClientVerify::kRequire};
    options.certificates = {*tls::Certificate::parse(own.certificate, own.key)};
    options.trust = std::make_shared<const tls::Trust>(
        tls::Trust::Bundles{{"a.test", *tls::Authorities::parse(authority_.certificate, revoked)}});
    listener->tls = *tls::ServerContext::make(options, tls::Library::shared());
    listener->mesh = policies_;
    listener->said = std::make_shared<SaidOnce>();
    return listener;
  }
  static std::chrono::system_clock::time_point in_an_hour() { return std::chrono::system_clock::now() + 1h; }
  test::TlsClient::Options peer(const test::CertificatePem& shown, const std::string& alpn = "\x07meshd/1") const {
    return {.server_name = "", .alpn = alpn, .certificate = shown};
  }
  static std::string header(const std::string& service, const std::string& destination = "[::]:80") {
    return encode({.source = kClient, .destination = *base::SocketAddress::parse(destination), .service = service});
  }

  const test::CertificatePem authority_ = test::make_authority("a", std::chrono::system_clock::now() + 2h);
  const test::CertificatePem shop_ = test::make_svid("spiffe://a.test/shop", in_an_hour(), authority_);
  const std::shared_ptr<const MeshPolicies> policies_ =
      std::make_shared<const MeshPolicies>(MeshPolicies{{"web:80",
                                                         {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/shop")},
                                                          .endpoints = {*base::SocketAddress::parse("[::]:80")}}}});
};

TEST_F(MeshConnectionTest, relays_to_the_destination_after_saying_so) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  ASSERT_TRUE(client.open());
  EXPECT_TRUE(dialed_.empty()) << "nobody has said where to";
  const std::string said = header("web:80") + "question";
  client.write(said.substr(0, 10));
  talk(client);
  client.write(said.substr(10));
  EXPECT_EQ(talk(client), std::string(1, '\0'));
  EXPECT_EQ(dialed_, std::vector<std::string>{"[::]:80"});
  EXPECT_EQ(receive_all(backend_.get()), "question");
  ASSERT_EQ(::send(backend_.get(), "answer", 6, 0), 6);
  step();
  EXPECT_EQ(talk(client), "answer");
  client.close();
  talk(client);
  EXPECT_TRUE(mesh::relay::ended(backend_.get()));
  ASSERT_EQ(::send(backend_.get(), "more", 4, 0), 4) << "half-closed";
  step();
  EXPECT_EQ(talk(client), "more");
}

TEST_F(MeshConnectionTest, names_why_it_refuses_on_both_sides) {
  const auto refused = [&](const std::string& said, const test::CertificatePem& shown) {
    connect(make_mesh());
    test::TlsClient client(peer(shown));
    talk(client);
    client.write(said);
    const std::string reply = talk(client);
    EXPECT_TRUE(client.peer_closed());
    EXPECT_EQ(reply.size(), 1U);
    return reply.empty() ? MeshReply::kConnected : static_cast<MeshReply>(reply[0]);
  };
  const auto cart = test::make_svid("spiffe://a.test/cart", in_an_hour(), authority_);
  EXPECT_EQ(refused(header("web:80"), cart), MeshReply::kNotAllowed);
  EXPECT_EQ(refused(header("web:81"), shop_), MeshReply::kNoService);
  EXPECT_EQ(refused(header("web:80", "[::]:81"), shop_), MeshReply::kNotHere);
  EXPECT_EQ(refused("GET / HTTP/1.1\r\n\r\n", shop_), MeshReply::kHeader);
  refusing_.insert("[::]:80");
  EXPECT_EQ(refused(header("web:80"), shop_), MeshReply::kUnreachable);
  EXPECT_EQ(failed(), (Counts{{"mesh: header", 1},
                              {"mesh: no endpoint of the service here", 1},
                              {"mesh: no such service here", 1},
                              {"mesh: not allowed", 1},
                              {"mesh: workload does not answer", 1}}));
}

TEST_F(MeshConnectionTest, refuses_identities_and_versions_in_the_handshake) {
  const auto refused = [&](const test::TlsClient::Options& options) {
    connect(make_mesh());
    test::TlsClient client(options);
    talk(client);
  };
  const auto elsewhere = test::make_authority("b", std::chrono::system_clock::now() + 2h);
  refused(peer(test::make_svid("spiffe://b.test/shop", in_an_hour(), elsewhere)));
  refused(peer(test::make_svid("spiffe://a.test/shop", in_an_hour(), elsewhere)));
  refused(peer(test::make_svid("spiffe://a.test/shop", std::chrono::system_clock::now() - 1h, authority_)));
  refused(peer({}));
  refused(peer(shop_, "\x07meshd/2"));
  EXPECT_EQ(failed(), (Counts{{"certificate: certificate expired", 1},
                              {"certificate: unknown issuer", 1},
                              {"certificate: unknown trust domain", 1},
                              {"tls: alpn", 1},
                              {"tls: no_certificate", 1}}));
}

TEST_F(MeshConnectionTest, is_closed_when_its_peer_is_revoked_and_not_when_certificates_are_new) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  client.write(header("web:80"));
  talk(client);
  connection_->recheck(make_mesh());
  EXPECT_EQ(ended_, 0);
  connection_->recheck(make_mesh(test::make_revocation_list(authority_, {shop_}, in_an_hour())));
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(endings(), (Counts{{"mesh: certificate revoked", 1}}));
}

TEST_F(MeshConnectionTest, is_closed_when_its_identity_is_not_allowed_any_more) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  client.write(header("web:80"));
  talk(client);
  const auto others = make_mesh();
  others->mesh =
      std::make_shared<const MeshPolicies>(MeshPolicies{{"web:80",
                                                         {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/cart")},
                                                          .endpoints = {*base::SocketAddress::parse("[::]:80")}}}});
  connection_->recheck(others);
  EXPECT_EQ(endings(), (Counts{{"mesh: not allowed", 1}}));
}

}  // namespace
}  // namespace mesh::relay
