// SPDX-License-Identifier: Apache-2.0
// A TLS client without I/O that does what a test asks of it: versions, certificates, resumption. Plain OpenSSL, so that
// agent/tls is tested against something else than itself.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "tests/support/certificate.hpp"
#include "tls/session.hpp"

struct ssl_st;
struct ssl_ctx_st;
struct ssl_session_st;

namespace mesh::test {

class TlsClient {
 public:
  struct Options {
    std::string server_name;
    std::string alpn;     ///< With lengths: "\x02h2".
    int min_version = 0;  ///< As OpenSSL has them: TLS1_2_VERSION; 0: whatever it likes.
    int max_version = 0;
    std::string signatures;             ///< "RSA-PSS+SHA256"
    CertificatePem certificate{};       ///< To show; empty: none.
    ssl_session_st* session = nullptr;  ///< To resume.
  };
  explicit TlsClient(const Options& options);
  /// Another connection of the same client, which resumes `session` unless it is null.
  TlsClient(const TlsClient& same, ssl_session_st* session);
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  /// Takes all bytes, says what it has to, and returns what it decrypted.
  std::string feed(std::span<const std::byte> bytes);
  void write(std::string_view plain);
  void close();  ///< Says that it is done.
  std::string take_output();

  [[nodiscard]] bool open() const;
  [[nodiscard]] bool peer_closed() const;                ///< The server said that it is done.
  [[nodiscard]] std::string server_certificate() const;  ///< PEM
  [[nodiscard]] bool resumed() const;
  /// The last ticket that came; owned by the caller, freed with SSL_SESSION_free.
  [[nodiscard]] ssl_session_st* session() const;
  [[nodiscard]] ssl_st* ssl() const { return ssl_; }

 private:
  void start(const Options& options);

  ssl_ctx_st* context_;
  ssl_st* ssl_ = nullptr;
};

/// Lets both talk, in pieces of `piece` bytes, until nobody has anything to say. Returns what the server decrypted.
std::string talk(TlsClient& client, tls::Session& server, std::size_t piece = ~std::size_t{0});

}  // namespace mesh::test
