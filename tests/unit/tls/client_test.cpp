// SPDX-License-Identifier: Apache-2.0
// What the client makes of a server's certificate and of bytes that are no TLS, without a socket. The verdicts are what
// `probe: {type: https}` shows.
#include "tls/client.hpp"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "tests/support/certificate.hpp"
#include "tls/server.hpp"
#include "tls/ticket_keys.hpp"

namespace mesh::tls {
namespace {

using State = Session::State;
using test::CertificatePem;

constexpr auto kWhole = ~std::size_t{0};

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::system_clock::now() + std::chrono::hours(hours);
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

std::shared_ptr<const ServerContext> serving(const CertificatePem& pem, const std::string& chain = "") {
  const auto certificate = Certificate::parse(pem.certificate + chain, pem.key);
  EXPECT_TRUE(certificate) << certificate.error().to_string();
  return *ServerContext::make({.certificates = {*certificate}}, Library::shared());
}

/// A server that chooses among the protocols it is offered; agent/tls has no such one.
class AlpnServer {
 public:
  AlpnServer(const CertificatePem& pem, std::string protocols) : protocols_(std::move(protocols)) {
    BIO* certificate_text = BIO_new_mem_buf(pem.certificate.data(), static_cast<int>(pem.certificate.size()));
    BIO* key_text = BIO_new_mem_buf(pem.key.data(), static_cast<int>(pem.key.size()));
    X509* certificate = PEM_read_bio_X509(certificate_text, nullptr, nullptr, nullptr);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(key_text, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(certificate_text);
    BIO_free(key_text);
    SSL_CTX_set_alpn_select_cb(context_, choose, this);
    ssl_ = SSL_new(context_);
    SSL_set_bio(ssl_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl_);
  }
  ~AlpnServer() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  AlpnServer(const AlpnServer&) = delete;
  AlpnServer& operator=(const AlpnServer&) = delete;

  void shake_hands_with(ClientSession& client) {
    for (int round = 0; round < 4; ++round) {
      const auto out = client.output();
      BIO_write(SSL_get_rbio(ssl_), out.data(), static_cast<int>(out.size()));
      client.sent(out.size());
      SSL_do_handshake(ssl_);
      char* data = nullptr;
      const long size = BIO_get_mem_data(SSL_get_wbio(ssl_), &data);
      std::string plain;
      client.feed(bytes_of({data, static_cast<std::size_t>(size)}), plain);
      BIO_reset(SSL_get_wbio(ssl_));
    }
  }
  [[nodiscard]] std::string server_name() const {
    const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    return name == nullptr ? "" : name;
  }

 private:
  static int choose(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned offered_size, void* self) {
    const std::string& mine = static_cast<AlpnServer*>(self)->protocols_;
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(mine.data()),
                              static_cast<unsigned>(mine.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
  }

  std::string protocols_;
  SSL_CTX* context_ = SSL_CTX_new(TLS_server_method());
  SSL* ssl_ = nullptr;
};

class TlsClient : public testing::Test {
 protected:
  ~TlsClient() override { std::filesystem::remove(ca_); }

  std::shared_ptr<const ClientContext> trusting(const CertificatePem& authority, bool verify = true,
                                                const std::string& alpn = "http/1.1") {
    std::ofstream(ca_, std::ios::trunc) << authority.certificate;
    auto made = ClientContext::make({.ca_file = ca_, .verify = verify, .alpn = {alpn}});
    EXPECT_TRUE(made) << made.error().to_string();
    return *made;
  }

  /// "open", or why not. `chain` is what the server sends after its own certificate.
  std::string verdict(const CertificatePem& server, const std::string& name,
                      const std::shared_ptr<const ClientContext>& context, const std::string& chain = "") {
    ServerSession server_side(serving(server, chain));
    ClientSession client_side(context, name);
    for (int round = 0; round < 4; ++round) {
      carry(client_side, server_side, kWhole);
      carry(server_side, client_side, kWhole);
    }
    if (client_side.state() == State::kOpen) return "open";
    EXPECT_EQ(client_side.state(), State::kFailed);
    return client_side.error();
  }

  const CertificatePem authority_ = test::make_authority("root", in_hours(12));
  const std::string ca_ = std::filesystem::temp_directory_path() / ("mesh-ca-" + std::to_string(::getpid()) + ".pem");
};

TEST_F(TlsClient, the_chain_must_lead_to_an_authority_that_is_trusted) {
  const auto signed_by_root = test::make_certificate_for("DNS:a.test", in_hours(12), &authority_);
  const auto middle = test::make_authority("middle", in_hours(12), &authority_);
  const auto signed_by_middle = test::make_certificate_for("DNS:a.test", in_hours(12), &middle);
  const auto not_an_authority = test::make_certificate_for("DNS:b.test", in_hours(12), &authority_);
  const auto signed_by_neighbour = test::make_certificate_for("DNS:a.test", in_hours(12), &not_an_authority);
  const auto stranger = test::make_authority("stranger", in_hours(12));
  const auto context = trusting(authority_);
  EXPECT_EQ(verdict(signed_by_root, "a.test", context), "open");
  EXPECT_EQ(verdict(signed_by_middle, "a.test", context, middle.certificate), "open");
  EXPECT_EQ(verdict(signed_by_middle, "a.test", context), "unknown issuer");
  EXPECT_EQ(verdict(signed_by_root, "a.test", trusting(stranger)), "unknown issuer");
  EXPECT_EQ(verdict(test::make_certificate("a.test", in_hours(12)), "a.test", trusting(authority_)),
            "self-signed certificate");
  EXPECT_NE(verdict(signed_by_neighbour, "a.test", context, not_an_authority.certificate), "open");
}

TEST_F(TlsClient, the_certificate_must_be_for_the_name_or_address) {
  const auto context = trusting(authority_);
  const auto server =
      test::make_certificate_for("DNS:a.test,DNS:*.wild.test,IP:10.0.0.1,IP:fd00::1", in_hours(12), &authority_);
  for (const std::string name : {"a.test", "A.TEST", "x.wild.test", "10.0.0.1", "fd00::1"}) {
    EXPECT_EQ(verdict(server, name, context), "open") << name;
  }
  for (const std::string name : {"b.test", "x.a.test", "wild.test", "x.y.wild.test", "10.0.0.2", "fd00::2"}) {
    EXPECT_EQ(verdict(server, name, context), "name mismatch") << name;
  }
}

TEST_F(TlsClient, every_certificate_of_the_chain_must_be_valid_now) {
  const auto context = trusting(authority_);
  const auto ended = test::make_certificate_for("DNS:a.test", in_hours(-1), &authority_);
  const auto to_come = test::make_certificate_for("DNS:a.test", in_hours(48), &authority_);
  const auto ended_middle = test::make_authority("middle", in_hours(-1), &authority_);
  const auto below_it = test::make_certificate_for("DNS:a.test", in_hours(12), &ended_middle);
  EXPECT_EQ(verdict(ended, "a.test", context), "certificate expired");
  EXPECT_EQ(verdict(to_come, "a.test", context), "certificate not yet valid");
  EXPECT_EQ(verdict(below_it, "a.test", context, ended_middle.certificate), "certificate expired");
}

TEST_F(TlsClient, without_verification_everything_opens) {
  const auto context = trusting(authority_, false);
  EXPECT_EQ(verdict(test::make_certificate("b.test", in_hours(-1)), "a.test", context), "open");
}

TEST_F(TlsClient, resumes_with_the_endpoint_that_gave_the_session_under_the_name_that_was_verified) {
  const auto pair = test::make_certificate_for("DNS:a.test,DNS:b.test", in_hours(12), &authority_);
  const auto server = [&] {
    TicketKeys keys;
    rotate(keys, base::wall_now());
    return *ServerContext::make({.certificates = {*Certificate::parse(pair.certificate, pair.key)},
                                 .tickets = std::make_shared<TicketKeys>(keys)},
                                Library::shared());
  };
  const auto context = [&](bool tls12, bool verify = true) {
    return *ClientContext::make({.authorities = *Authorities::parse(authority_.certificate, ""),
                                 .verify = verify,
                                 .resume = true,
                                 .tls12 = tls12});
  };
  const auto one = server();
  const auto resumed = [&](const auto& with, const auto& to, const std::string& name, const std::string& endpoint) {
    ServerSession server_side(to);
    ClientSession client_side(with, name, endpoint);
    for (int round = 0; round < 4; ++round) {
      carry(client_side, server_side, kWhole);
      carry(server_side, client_side, kWhole);
    }
    EXPECT_EQ(client_side.state(), State::kOpen) << client_side.error();
    EXPECT_EQ(client_side.resumed(), server_side.resumed());
    return client_side.resumed();
  };
  const auto client = context(false);
  EXPECT_FALSE(resumed(client, one, "a.test", "10.0.0.1:443"));
  EXPECT_TRUE(resumed(client, one, "a.test", "10.0.0.1:443"));
  EXPECT_TRUE(resumed(client, one, "a.test", "10.0.0.1:443")) << "a ticket comes with each";
  EXPECT_FALSE(resumed(client, one, "a.test", "10.0.0.2:443"));
  EXPECT_FALSE(resumed(client, one, "b.test", "10.0.0.1:443"));
  EXPECT_FALSE(resumed(client, one, "a.test", ""));
  EXPECT_FALSE(resumed(context(false), one, "a.test", "10.0.0.1:443")) << "other authorities, other sessions";
  const auto careless = context(false, false);
  EXPECT_FALSE(resumed(careless, one, "a.test", "10.0.0.1:443"));
  EXPECT_FALSE(resumed(careless, one, "a.test", "10.0.0.1:443")) << "nothing was verified";
  // A server that knows nothing of the session, and one that does not bear it.
  EXPECT_FALSE(resumed(client, server(), "a.test", "10.0.0.1:443"));
  {
    ClientSession failing(client, "a.test", "10.0.0.1:443");
    std::string plain;
    failing.feed(bytes_of("HTTP/1.1 400 Bad Request"), plain);
    EXPECT_EQ(failing.state(), State::kFailed);
  }
  EXPECT_FALSE(resumed(client, one, "a.test", "10.0.0.1:443")) << "what failed is not tried again";
}

TEST_F(TlsClient, asks_for_its_protocol_and_names_the_server_but_never_an_address) {
  const auto pem = test::make_certificate_for("DNS:a.test,IP:10.0.0.1", in_hours(12), &authority_);
  const std::string both("\x08http/1.1\x02h2");
  for (const auto& [alpn, offered, chosen] : {std::tuple("http/1.1", both, "http/1.1"), std::tuple("h2", both, "h2"),
                                              std::tuple("h2", std::string("\x08http/1.1"), "")}) {
    AlpnServer server(pem, offered);
    ClientSession client(trusting(authority_, true, alpn), "a.test");
    server.shake_hands_with(client);
    ASSERT_EQ(client.state(), State::kOpen) << client.error();
    EXPECT_EQ(client.alpn(), chosen);
    EXPECT_EQ(server.server_name(), "a.test");
  }
  AlpnServer server(pem, both);
  ClientSession client(trusting(authority_), "10.0.0.1");
  server.shake_hands_with(client);
  ASSERT_EQ(client.state(), State::kOpen) << client.error();
  EXPECT_EQ(server.server_name(), "");
}

TEST_F(TlsClient, what_is_no_tls_fails_and_is_named) {
  const auto context = trusting(authority_);
  const std::string_view garbage("\x16\x03\x03\x00\x10 sixteen bytes!!!!", 22);
  for (const auto& [text, error] :
       {std::pair(std::string_view("HTTP/1.1 400 Bad Request\r\n\r\n"), "not TLS"),
        std::pair(std::string_view("220 mail.test ESMTP\r\n"), "not TLS"), std::pair(garbage, "")}) {
    for (const std::size_t piece : {kWhole, std::size_t{1}}) {
      ClientSession client(context, "a.test");
      std::string plain;
      for (std::size_t at = 0; at < text.size() && client.state() == State::kHandshake;) {
        const auto part = text.substr(at, piece);
        client.feed(bytes_of(part), plain);
        at += part.size();
      }
      EXPECT_EQ(client.state(), State::kFailed) << text;
      EXPECT_FALSE(client.error().empty());
      if (*error != '\0') EXPECT_EQ(client.error(), error);
      EXPECT_EQ(plain, "");
    }
  }
}

TEST_F(TlsClient, a_record_that_is_cut_is_waited_for_and_a_damaged_one_ends_it) {
  const auto server = test::make_certificate_for("DNS:a.test", in_hours(12), &authority_);
  const auto server_context = serving(server);
  const auto context = trusting(authority_);
  for (const bool damaged : {false, true}) {
    ServerSession server_side(server_context);
    ClientSession client_side(context, "a.test");
    for (int round = 0; round < 4; ++round) {
      carry(client_side, server_side, 1);
      carry(server_side, client_side, 1);
    }
    ASSERT_EQ(client_side.state(), State::kOpen) << client_side.error();
    server_side.write(bytes_of("HTTP/1.1 200 OK"));
    std::vector<std::byte> record(server_side.output().begin(), server_side.output().end());
    if (damaged) record.back() ^= std::byte{1};
    std::string plain;
    const auto all_but_last = std::span(record).first(record.size() - 1);
    EXPECT_EQ(client_side.feed(all_but_last, plain), State::kOpen);
    EXPECT_EQ(plain, "") << "nothing is believed before its record is whole";
    EXPECT_EQ(client_side.feed(std::span(record).last(1), plain), damaged ? State::kFailed : State::kOpen);
    EXPECT_EQ(plain, damaged ? "" : "HTTP/1.1 200 OK");
  }
}

TEST_F(TlsClient, a_trust_file_that_can_not_be_used_is_an_error_that_names_it) {
  const auto missing = ClientContext::make({.ca_file = "/nonexistent/ca.pem"});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().to_string().find("/nonexistent/ca.pem"), std::string::npos);
  std::ofstream(ca_) << "no certificate\n";
  const auto empty = ClientContext::make({.ca_file = ca_});
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().to_string().find(ca_), std::string::npos);
}

}  // namespace
}  // namespace mesh::tls
