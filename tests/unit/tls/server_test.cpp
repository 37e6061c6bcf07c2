// SPDX-License-Identifier: Apache-2.0
// The two sides of agent/tls against each other, without a socket.
#include "tls/server.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/certificate.hpp"
#include "tls/client.hpp"

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

class TlsServer : public testing::Test {
 protected:
  TlsServer() { std::ofstream(ca_) << pem_.certificate; }
  ~TlsServer() override { std::filesystem::remove(ca_); }

  std::shared_ptr<const ServerContext> server() const {
    auto made = ServerContext::make(pem_.certificate, pem_.key);
    EXPECT_TRUE(made) << made.error().to_string();
    return *made;
  }
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
    client_side.write(bytes_of(question));
    EXPECT_EQ(carry(client_side, server_side, piece), question);
    server_side.write(bytes_of(answer));
    EXPECT_EQ(carry(server_side, client_side, piece), answer);
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

TEST(TlsServerContext, refuses_what_is_no_pair_and_takes_what_has_expired) {
  const auto one = test::make_certificate("one", in_hours(1));
  const auto other = test::make_certificate("other", in_hours(1));
  const auto message = [](const std::string& certificate, const std::string& key) {
    const auto made = ServerContext::make(certificate, key);
    return made ? std::string("taken") : made.error().message;
  };
  EXPECT_EQ(message("", one.key), "use the certificate: it is no PEM certificate");
  EXPECT_EQ(message(one.key, one.key), "use the certificate: it is no PEM certificate");
  EXPECT_EQ(message(one.certificate, ""), "use the key: it is no PEM private key without passphrase");
  EXPECT_EQ(message(one.certificate, other.key), "use the key: it is not that of the certificate");
  const std::string cut = other.certificate.substr(0, other.certificate.size() / 2);
  EXPECT_TRUE(message(one.certificate + cut, one.key).starts_with("use the certificate's chain"));
  EXPECT_EQ(message(one.certificate + other.certificate, one.key), "taken");
  const auto end = in_hours(-1);
  const auto expired = test::make_certificate("expired", end);
  const auto made = ServerContext::make(expired.certificate, expired.key);
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->expires(), end);
}

}  // namespace
}  // namespace mesh::tls
