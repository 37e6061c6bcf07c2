// SPDX-License-Identifier: Apache-2.0
#include "relay/connection.hpp"

#include "tests/support/relay_connection.hpp"
#include "tls/private_key.hpp"

namespace mesh::relay {
namespace {

using namespace std::chrono_literals;
using test::ConnectionTest;
using test::kClient;
using test::receive_all;

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
  EXPECT_TRUE(test::ended(backend_.get()));
  ASSERT_EQ(::send(backend_.get(), "late answer", 11, 0), 11);
  EXPECT_EQ(talk(client), "late answer");
  EXPECT_EQ(ended_, 0);
  backend_.reset();
  talk(client);
  EXPECT_TRUE(client.peer_closed()) << "no close_notify";
  EXPECT_TRUE(test::ended(client_.get()));
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

TEST_F(ConnectionTest, want_of_descriptors_is_no_backends_fault) {
  dial_fails_ = EMFILE;
  connect(make_listener(Mode::kTerminate, 2));
  test::TlsClient client({.server_name = "shop.test"});
  talk(client);
  EXPECT_EQ(dialed_.size(), 1U);
  EXPECT_EQ(failed(), (Counts{{"limit: descriptors", 1}}));
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
  EXPECT_TRUE(test::ended(client_.get()));
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

TEST_F(ConnectionTest, what_is_experienced_with_endpoints_is_counted) {
  refusing_ = {"10.0.0.1:80"};
  const auto of = [&](int endpoint) {
    return loads_.find(
        {base::SocketAddress{}, *base::SocketAddress::parse("10.0.0." + std::to_string(endpoint) + ":80")});
  };
  connect(make_originating(2));
  EXPECT_EQ(of(1)->refused, 1U);
  EXPECT_EQ(connection_->endpoint(), nullptr) << "not relayed yet";
  tls::ServerSession server(server_);
  serve(server);
  ASSERT_NE(connection_->endpoint(), nullptr);
  EXPECT_EQ(connection_->endpoint(), of(2).get());
  EXPECT_EQ(of(2)->established, 1U);
  EXPECT_EQ(of(2)->open, 1U);
  connection_->cut("endpoint left");
  EXPECT_EQ(endings(), (Counts{{"endpoint left", 1}}));
  EXPECT_EQ(of(2)->open, 0U);
  EXPECT_EQ(of(2)->active, 0U);
  EXPECT_EQ(of(2)->closed, 1U);
  EXPECT_EQ(of(2)->cut_off, 0U) << "that was not the endpoint";
  connect(make_originating());
  EXPECT_EQ(of(1)->refused, 2U);
  refusing_.clear();
  connect(make_originating());
  ASSERT_EQ(::send(backend_.get(), "SSH-2.0-OpenSSH\r\n", 17, 0), 17);
  step();
  EXPECT_EQ(of(1)->not_agreed, 1U);
  EXPECT_EQ(of(1)->begun, 3U);
  EXPECT_EQ(of(1)->active, 0U);
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

}  // namespace
}  // namespace mesh::relay
