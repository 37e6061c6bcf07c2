// SPDX-License-Identifier: Apache-2.0
// The two sides of agent/tls against each other, without a socket.
#include "tls/server.hpp"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/support/certificate.hpp"
#include "tests/support/tls_client.hpp"
#include "tls/client.hpp"
#include "tls/private_key.hpp"

namespace mesh::tls {
namespace {

using State = Session::State;
constexpr auto kWhole = ~std::size_t{0};

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()) +
         std::chrono::hours(hours);
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// Hands over what one side has to say, in pieces; returns what the other side reads.
std::string carry(Session& from, Session& to, std::size_t piece) {
  std::string plain;
  while (!from.output().empty()) {
    const auto bytes = from.output().first(std::min(piece, from.output().size()));
    to.feed(bytes, plain);
    from.sent(bytes.size());
  }
  return plain;
}

std::shared_ptr<const Certificate> parsed(const test::CertificatePem& pem, const std::string& chain = "") {
  auto made = Certificate::parse(pem.certificate + chain, pem.key);
  EXPECT_TRUE(made) << made.error().to_string();
  return *made;
}

std::shared_ptr<const ServerContext> server_of(const ServerOptions& options) {
  auto made = ServerContext::make(options, Library::shared());
  EXPECT_TRUE(made) << made.error().to_string();
  return *made;
}

class TlsServer : public testing::Test {
 protected:
  TlsServer() { std::ofstream(ca_) << pem_.certificate; }
  ~TlsServer() override { std::filesystem::remove(ca_); }

  std::shared_ptr<const ServerContext> server() const { return server_of({.certificates = {parsed(pem_)}}); }
  std::shared_ptr<const ClientContext> client(bool trusts = true) const {
    return *ClientContext::make({.ca_file = trusts ? ca_ : ""});
  }

  const test::CertificatePem pem_ = test::make_certificate("metrics.test", in_hours(12));
  const std::string ca_ = std::filesystem::temp_directory_path() / ("mesh-tls-" + std::to_string(::getpid()) + ".pem");
};

TEST_F(TlsServer, talks_with_a_client_that_verifies_it_however_the_records_are_cut) {
  for (const std::size_t piece : {kWhole, std::size_t{7}, std::size_t{1}}) {
    ServerSession server_side(server());
    ClientSession client_side(client(), "metrics.test");
    for (int round = 0; round < 4; ++round) {
      carry(client_side, server_side, piece);
      carry(server_side, client_side, piece);
    }
    ASSERT_EQ(client_side.state(), State::kOpen) << client_side.error();
    ASSERT_EQ(server_side.state(), State::kOpen) << server_side.error();
    const std::string question(20'000, 'q');  // more than one record
    const std::string answer(100'000, 'a');
    ASSERT_EQ(client_side.write(bytes_of(question)), question.size());
    EXPECT_TRUE(carry(client_side, server_side, piece) == question);
    std::string answered;
    for (auto left = bytes_of(answer); !left.empty();) {
      left = left.subspan(server_side.write(left));
      answered += carry(server_side, client_side, piece);
    }
    EXPECT_TRUE(answered == answer);
  }
}

TEST_F(TlsServer, a_request_in_the_same_bytes_as_the_end_of_the_handshake_is_read) {
  ServerSession server_side(server());
  ClientSession client_side(client(), "metrics.test");
  carry(client_side, server_side, kWhole);
  carry(server_side, client_side, kWhole);
  ASSERT_EQ(client_side.state(), State::kOpen) << client_side.error();
  client_side.write(bytes_of("GET /metrics"));
  EXPECT_EQ(carry(client_side, server_side, kWhole), "GET /metrics");
}

TEST_F(TlsServer, garbage_and_plain_http_instead_of_a_hello_end_it_and_say_so) {
  for (const std::string_view text :
       {std::string_view("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string_view("\x16\x03\x01\xff\xff nothing of a hello"), std::string_view("\0\0\0\0\0\0\0\0", 8)}) {
    for (const std::size_t piece : {kWhole, std::size_t{1}}) {
      ServerSession session(server());
      std::string plain;
      for (std::size_t at = 0; at < text.size() && session.state() == State::kHandshake;) {
        const auto part = text.substr(at, piece);
        session.feed(bytes_of(part), plain);
        at += part.size();
      }
      EXPECT_EQ(session.state(), State::kFailed) << text;
      EXPECT_FALSE(session.error().empty());
      EXPECT_EQ(plain, "");
      if (text.starts_with("GET")) EXPECT_EQ(session.error(), "not TLS");
    }
  }
}

TEST_F(TlsServer, a_damaged_record_ends_it) {
  ServerSession server_side(server());
  ClientSession client_side(client(), "metrics.test");
  for (int round = 0; round < 2; ++round) {
    carry(client_side, server_side, kWhole);
    carry(server_side, client_side, kWhole);
  }
  client_side.write(bytes_of("GET /metrics"));
  std::vector<std::byte> record(client_side.output().begin(), client_side.output().end());
  record.back() ^= std::byte{1};
  std::string plain;
  EXPECT_EQ(server_side.feed(record, plain), State::kFailed);
  EXPECT_EQ(plain, "");
}

TEST_F(TlsServer, a_client_that_does_not_trust_it_is_told_why_on_both_sides) {
  ServerSession server_side(server());
  ClientSession client_side(client(false), "metrics.test");
  for (int round = 0; round < 3; ++round) {
    carry(client_side, server_side, kWhole);
    carry(server_side, client_side, kWhole);
  }
  EXPECT_EQ(client_side.state(), State::kFailed);
  EXPECT_EQ(client_side.error(), "self-signed certificate");
  EXPECT_EQ(server_side.state(), State::kFailed);
  EXPECT_NE(server_side.error().find("alert"), std::string::npos) << server_side.error();
}

TEST_F(TlsServer, takes_what_there_is_room_for_and_the_rest_when_it_is_offered_again) {
  ServerSession server_side(server());
  test::TlsClient client({.server_name = "metrics.test"});
  test::talk(client, server_side);
  ASSERT_EQ(server_side.state(), State::kOpen) << server_side.error();
  EXPECT_TRUE(server_side.output().empty());

  const std::string question(50'000, 'q');
  client.write(question);
  const std::string cipher = client.take_output();
  auto rest = bytes_of(cipher);
  std::string read;
  std::array<std::byte, 1000> room;
  for (Session::Read done{.plain = room.size()}; done.plain == room.size();) {
    done = server_side.read(rest, room);
    EXPECT_LE(cipher.size() - rest.size(), read.size() + 17'000) << "no more than a record ahead";
    rest = rest.subspan(done.taken);
    read.append(reinterpret_cast<const char*>(room.data()), done.plain);
  }
  EXPECT_TRUE(rest.empty());
  EXPECT_EQ(read, question);

  const std::string answer(200'000, 'a');
  std::string answered;
  std::size_t writes = 0;
  for (auto left = bytes_of(answer); !left.empty(); ++writes) {
    left = left.subspan(server_side.write(left));
    EXPECT_LE(server_side.output().size(), kOutputBytes);
    EXPECT_TRUE(left.empty() || server_side.output_full() || kOutputBytes - server_side.output().size() < 16'500);
    const auto* before = server_side.output().data();
    server_side.sent(1);
    EXPECT_EQ(server_side.output().data(), before + 1) << "what is being sent stays in place";
    server_side.sent(0);
    answered += client.feed(std::span(before, 1));
    answered += client.feed(server_side.output());
    server_side.sent(server_side.output().size());
  }
  EXPECT_EQ(answered, answer);
  EXPECT_GE(writes, 3u);
}

TEST_F(TlsServer, records_are_small_at_first_and_after_a_pause_and_then_large) {
  ServerSession server_side(server());
  test::TlsClient client({});
  test::talk(client, server_side);
  const auto records = [&] {
    std::vector<std::size_t> sizes;
    for (auto out = server_side.output(); !out.empty();) {
      sizes.push_back((std::to_integer<std::size_t>(out[3]) << 8) + std::to_integer<std::size_t>(out[4]));
      out = out.subspan(5 + sizes.back());
    }
    server_side.sent(server_side.output().size());
    return sizes;
  };
  const std::string data(60'000, 'x');
  ASSERT_EQ(server_side.write(bytes_of(data)), data.size());
  const auto first = records();
  EXPECT_LE(first.front(), 1448u);
  EXPECT_GT(first[10], 16'000u);
  ASSERT_EQ(server_side.write(bytes_of(data)), data.size());
  EXPECT_EQ(records().size(), 4u);
  server_side.rested();
  ASSERT_EQ(server_side.write(bytes_of(data)), data.size());
  EXPECT_EQ(records(), first);
}

TEST_F(TlsServer, each_side_says_for_itself_that_it_is_done) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ServerSession server_side(server());
    test::TlsClient client({.max_version = version});
    test::talk(client, server_side);
    client.close();
    test::talk(client, server_side);
    EXPECT_EQ(server_side.state(), State::kClosed);
    ASSERT_EQ(server_side.write(bytes_of("still there")), 11u);
    const std::string out(reinterpret_cast<const char*>(server_side.output().data()), server_side.output().size());
    EXPECT_GT(out.size(), 11u);
    EXPECT_FALSE(client.peer_closed());
    server_side.finish();
    client.feed(server_side.output());
    EXPECT_TRUE(client.peer_closed());
  }
}

TEST_F(TlsServer, a_certificate_is_chosen_by_the_name_and_by_what_the_client_can_verify) {
  const auto shop = test::make_certificate_for("DNS:shop.test", in_hours(12), nullptr);
  const auto shop_rsa = test::make_certificate_for("DNS:shop.test", in_hours(12), nullptr, test::KeyKind::kRsa2048);
  const auto below = test::make_certificate_for("DNS:*.shop.test,DNS:other.test", in_hours(12), nullptr);
  const auto exact = test::make_certificate_for("DNS:a.shop.test", in_hours(12), nullptr);
  const auto context = server_of({.certificates = {parsed(shop), parsed(below), parsed(shop_rsa), parsed(exact)}});
  const auto shown = [&](const std::string& name, const std::string& signatures = "", int version = 0) {
    ServerSession server_side(context);
    test::TlsClient client({.server_name = name, .max_version = version, .signatures = signatures});
    test::talk(client, server_side);
    EXPECT_EQ(server_side.state(), State::kOpen) << server_side.error();
    return client.server_certificate();
  };
  EXPECT_EQ(shown("shop.test"), shop.certificate);
  EXPECT_EQ(shown("SHOP.test"), shop.certificate);
  EXPECT_EQ(shown("b.shop.test"), below.certificate);
  EXPECT_EQ(shown("other.test"), below.certificate);
  EXPECT_EQ(shown("a.shop.test"), exact.certificate);
  EXPECT_EQ(shown("x.b.shop.test"), shop.certificate) << "a wildcard is one label";
  EXPECT_EQ(shown("unknown.test"), shop.certificate);
  EXPECT_EQ(shown(""), shop.certificate);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_EQ(shown("shop.test", "RSA-PSS+SHA256", version), shop_rsa.certificate);
    EXPECT_EQ(shown("", "RSA-PSS+SHA256", version), shop_rsa.certificate);
    EXPECT_EQ(shown("shop.test", "ECDSA+SHA256", version), shop.certificate);
  }
}

TEST_F(TlsServer, the_facts_of_a_handshake) {
  const auto context = server_of({.certificates = {parsed(pem_)}, .alpn = {"h2", "http/1.1"}});
  ServerSession server_side(context);
  test::TlsClient client({.server_name = "Shop.Test", .alpn = "\x08http/1.1\x02h2"});
  test::talk(client, server_side);
  EXPECT_EQ(server_side.server_name(), "shop.test");
  EXPECT_EQ(server_side.alpn(), "h2");
  EXPECT_EQ(server_side.version(), "TLSv1.3");
  EXPECT_EQ(server_side.cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_FALSE(server_side.resumed());
  EXPECT_EQ(server_side.peer(), std::nullopt);

  ServerSession refusing(context);
  test::TlsClient other({.alpn = "\x04smtp"});
  test::talk(other, refusing);
  EXPECT_EQ(refusing.failure(), Failure::kAlpn);
  EXPECT_EQ(refusing.error(), "no application protocol in common");
}

TEST_F(TlsServer, old_versions_are_refused) {
  for (const bool tls12 : {true, false}) {
    const auto context = server_of({.certificates = {parsed(pem_)}, .tls12 = tls12});
    for (const int version : {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION}) {
      ServerSession server_side(context);
      test::TlsClient client({.min_version = version, .max_version = version});
      test::talk(client, server_side);
      const bool good = version == TLS1_3_VERSION || (version == TLS1_2_VERSION && tls12);
      EXPECT_EQ(server_side.state(), good ? State::kOpen : State::kFailed) << version;
      if (!good) EXPECT_EQ(server_side.failure(), Failure::kVersion) << server_side.error();
    }
  }
}

TEST_F(TlsServer, clients_show_a_certificate_if_they_have_to) {
  const auto authority = test::make_authority("clients", in_hours(12));
  const auto good = test::make_certificate_for("URI:spiffe://example.org/shop", in_hours(12), &authority);
  const auto revoked = test::make_certificate_for("DNS:revoked.test", in_hours(12), &authority);
  const auto expired = test::make_certificate_for("DNS:expired.test", in_hours(-1), &authority);
  const auto stranger = test::make_certificate("stranger.test", in_hours(12));
  const auto authorities = [&](std::chrono::system_clock::time_point next_update) {
    auto made =
        Authorities::parse(authority.certificate, test::make_revocation_list(authority, {revoked}, next_update));
    EXPECT_TRUE(made) << made.error().to_string();
    return *made;
  };
  const auto verdict = [&](const test::CertificatePem& shown, ClientVerify verify, int lists_end = 12) {
    ServerSession server_side(
        server_of({.certificates = {parsed(pem_)}, .verify = verify, .authorities = authorities(in_hours(lists_end))}));
    test::TlsClient client({.certificate = shown});
    test::talk(client, server_side);
    if (server_side.state() == State::kOpen) {
      const auto peer = server_side.peer();
      return "open" + (peer && !peer->uris.empty() ? " " + peer->uris.front() : "");
    }
    return std::string(to_string(server_side.failure())) + ": " + server_side.error();
  };
  for (const ClientVerify verify : {ClientVerify::kOptional, ClientVerify::kRequire}) {
    EXPECT_EQ(verdict(good, verify), "open spiffe://example.org/shop");
    EXPECT_EQ(verdict(revoked, verify), "certificate: certificate revoked");
    EXPECT_EQ(verdict(expired, verify), "certificate: certificate expired");
    EXPECT_EQ(verdict(stranger, verify), "certificate: self-signed certificate");
    EXPECT_EQ(verdict(good, verify, -1), "certificate: revocation list out of date");
  }
  EXPECT_EQ(verdict({}, ClientVerify::kOptional), "open");
  EXPECT_EQ(verdict({}, ClientVerify::kRequire), "no_certificate: the peer showed no certificate");
  EXPECT_EQ(verdict(stranger, ClientVerify::kNone), "open");
}

TEST_F(TlsServer, a_client_that_was_good_is_not_good_for_other_clients_or_under_other_rules) {
  const auto authority = test::make_authority("clients", in_hours(12));
  const auto good = test::make_certificate_for("DNS:good.test", in_hours(12), &authority);
  const auto impostor = test::make_certificate_for("DNS:good.test", in_hours(12), nullptr);
  const auto rules = [&](const std::vector<test::CertificatePem>& revoked) {
    return server_of({.certificates = {parsed(pem_)},
                      .verify = ClientVerify::kRequire,
                      .authorities = *Authorities::parse(
                          authority.certificate, test::make_revocation_list(authority, revoked, in_hours(12)))});
  };
  const auto opens = [](const std::shared_ptr<const ServerContext>& context, const test::CertificatePem& shown) {
    ServerSession server_side(context);
    test::TlsClient client({.certificate = shown});
    test::talk(client, server_side);
    return server_side.state() == State::kOpen;
  };
  const auto context = rules({});
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(opens(context, good));
    EXPECT_FALSE(opens(context, impostor));
    EXPECT_FALSE(opens(context, {.certificate = good.certificate, .key = impostor.key})) << "without its key";
  }
  EXPECT_FALSE(opens(rules({good}), good));
}

/// A client's session with one server, offered to another (or the same) server.
class TlsTickets : public TlsServer {
 protected:
  TlsTickets() { rotate(keys_, base::wall_now()); }

  ServerOptions options() const {
    return {.certificates = {parsed(pem_)}, .tickets = std::make_shared<TicketKeys>(keys_), .scope = "shop"};
  }
  /// True if a session that `first` opened is resumed by `second`.
  bool resumes(const ServerOptions& first, const ServerOptions& second, int version,
               const test::CertificatePem& shown = {}) {
    ServerSession one(server_of(first));
    test::TlsClient client({.max_version = version, .certificate = shown});
    test::talk(client, one);
    EXPECT_EQ(one.state(), State::kOpen) << one.error();
    SSL_SESSION* session = client.session();
    ServerSession two(server_of(second));
    test::TlsClient again({.max_version = version, .certificate = shown, .session = session});
    test::talk(again, two);
    SSL_SESSION_free(session);
    EXPECT_EQ(two.state(), State::kOpen) << two.error();
    EXPECT_EQ(two.resumed(), again.resumed());
    if (!shown.certificate.empty()) EXPECT_TRUE(two.peer().has_value()) << "who it is stays known";
    return two.resumed();
  }

  TicketKeys keys_;
};

TEST_F(TlsTickets, a_session_is_resumed_by_every_worker_that_has_the_key) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_TRUE(resumes(options(), options(), version));
    ServerOptions rotated = options();
    TicketKeys newer = keys_;
    rotate(newer, base::wall_now() + kTicketKeyLife);
    rotated.tickets = std::make_shared<TicketKeys>(newer);
    EXPECT_TRUE(resumes(options(), rotated, version)) << "the key before the newest still opens";
    TicketKeys foreign;
    rotate(foreign, base::wall_now());
    rotated.tickets = std::make_shared<TicketKeys>(foreign);
    EXPECT_FALSE(resumes(options(), rotated, version));
    rotated.tickets = nullptr;
    EXPECT_FALSE(resumes(rotated, rotated, version));
  }
}

TEST_F(TlsTickets, a_session_is_not_resumed_where_other_rules_hold) {
  const auto authority = test::make_authority("clients", in_hours(12));
  const auto shown = test::make_certificate_for("DNS:client.test", in_hours(12), &authority);
  const auto other = test::make_certificate_for("DNS:other.test", in_hours(12), &authority);
  ServerOptions verified = options();
  verified.verify = ClientVerify::kRequire;
  verified.authorities =
      *Authorities::parse(authority.certificate, test::make_revocation_list(authority, {}, in_hours(12)));
  ServerOptions revoking = verified;
  revoking.authorities =
      *Authorities::parse(authority.certificate, test::make_revocation_list(authority, {other}, in_hours(12)));
  ServerOptions elsewhere = options();
  elsewhere.scope = "elsewhere";
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_TRUE(resumes(verified, verified, version, shown));
    EXPECT_FALSE(resumes(verified, revoking, version, shown)) << "a new revocation list is looked at";
    EXPECT_FALSE(resumes(options(), verified, version, shown)) << "nobody verified it there";
    EXPECT_FALSE(resumes(options(), elsewhere, version));
  }
}

class TlsChallenges : public testing::Test {
 protected:
  TlsChallenges() {
    challenges_->set("shop.test", challenge_certificate("shop.test", sha256("key authorization"), base::wall_now()));
  }
  static test::TlsClient::Options validator(const std::string& name) {
    return {.server_name = name,
            .alpn =
                "\x0a"
                "acme-tls/1"};
  }
  std::shared_ptr<Challenges> challenges_ = std::make_shared<Challenges>();
};

TEST_F(TlsChallenges, are_answered_for_who_offers_only_their_protocol_even_without_or_with_client_certificates) {
  const auto authority = test::make_authority("root", in_hours(1));
  ServerOptions requires_one{.certificates = {parsed(test::make_certificate("shop.test", in_hours(1)))},
                             .alpn = {"h2"},
                             .verify = ClientVerify::kRequire,
                             .authorities = *Authorities::parse(authority.certificate, ""),
                             .challenges = challenges_};
  for (const ServerOptions& options : {requires_one, ServerOptions{.challenges = challenges_}}) {
    ServerSession server(server_of(options));
    test::TlsClient client(validator("SHOP.test"));
    test::talk(client, server);
    ASSERT_TRUE(client.open()) << server.error();
    EXPECT_TRUE(server.answers_challenge());
    EXPECT_EQ(server.alpn(), kChallengeProtocol);
    const std::string shown = client.server_certificate();
    EXPECT_EQ(shown, challenges_->find("shop.test")->chain_pem());
  }
}

TEST_F(TlsChallenges, are_nothing_to_anybody_else) {
  const ServerOptions options{.certificates = {parsed(test::make_certificate("shop.test", in_hours(1)))},
                              .challenges = challenges_};
  for (const auto& wants : {validator("other.test"), test::TlsClient::Options{.server_name = "shop.test"},
                            test::TlsClient::Options{.server_name = "shop.test",
                                                     .alpn = "\x02h2\x0a"
                                                             "acme-tls/1"}}) {
    ServerSession server(server_of(options));
    test::TlsClient client(wants);
    test::talk(client, server);
    EXPECT_TRUE(client.open()) << server.error();
    EXPECT_FALSE(server.answers_challenge());
    EXPECT_EQ(server.alpn(), "");
    EXPECT_EQ(client.server_certificate(), options.certificates[0]->chain_pem());
  }
  challenges_->set("shop.test", nullptr);
  ServerSession server(server_of(ServerOptions{.challenges = challenges_}));
  test::TlsClient client(validator("shop.test"));
  test::talk(client, server);
  EXPECT_FALSE(client.open());
  EXPECT_EQ(server.error(), "there is no certificate yet");
}

TEST(TlsTicketKeys, rotate_and_travel) {
  TicketKeys keys;
  const base::WallTime start{std::chrono::hours(480'000)};
  EXPECT_TRUE(rotate(keys, start));
  EXPECT_FALSE(rotate(keys, start + kTicketKeyLife - std::chrono::seconds(1)));
  const TicketKey first = keys.keys.front();
  for (std::size_t i = 1; i < kTicketKeysKept; ++i) {
    EXPECT_TRUE(rotate(keys, start + i * kTicketKeyLife));
    EXPECT_EQ(keys.keys.back(), first);
  }
  EXPECT_TRUE(rotate(keys, start + kTicketKeysKept * kTicketKeyLife));
  EXPECT_EQ(keys.keys.size(), kTicketKeysKept);
  EXPECT_NE(keys.keys.back(), first) << "forgotten";
  EXPECT_TRUE(rotate(keys, start)) << "a clock set back";

  const std::string bytes = encode(keys);
  const auto read = decode_ticket_keys(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, keys);
  for (const std::string& wrong : {std::string(), bytes.substr(1), bytes.substr(0, bytes.size() - 1), bytes + bytes}) {
    EXPECT_FALSE(decode_ticket_keys(wrong));
  }
}

}  // namespace
}  // namespace mesh::tls
