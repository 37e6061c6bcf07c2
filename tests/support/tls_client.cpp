// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tls_client.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace mesh::test {

TlsClient::TlsClient(const Options& options) : context_(SSL_CTX_new(TLS_client_method())) {
  // As old and bold as possible: it is the server that has to refuse.
  SSL_CTX_set_security_level(context_, 0);
  SSL_CTX_set_min_proto_version(context_, options.min_version);
  SSL_CTX_set_max_proto_version(context_, options.max_version);
  if (!options.signatures.empty() && SSL_CTX_set1_sigalgs_list(context_, options.signatures.c_str()) != 1) {
    throw std::runtime_error("OpenSSL takes no " + options.signatures);
  }
  if (!options.certificate.certificate.empty()) {
    BIO* text = BIO_new_mem_buf(options.certificate.certificate.data(), -1);
    X509* certificate = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
    BIO_free(text);
    text = BIO_new_mem_buf(options.certificate.key.data(), -1);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
    BIO_free(text);
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  start(options);
}

TlsClient::TlsClient(const TlsClient& same, ssl_session_st* session) : context_(same.context_) {
  SSL_CTX_up_ref(context_);
  const char* name = SSL_get_servername(same.ssl_, TLSEXT_NAMETYPE_host_name);
  start({.server_name = name == nullptr ? "" : name, .session = session});
}

void TlsClient::start(const Options& options) {
  ssl_ = SSL_new(context_);
  SSL_set_bio(ssl_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  if (!options.server_name.empty()) SSL_set_tlsext_host_name(ssl_, options.server_name.c_str());
  SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(options.alpn.data()),
                      static_cast<unsigned>(options.alpn.size()));
  if (options.session != nullptr) SSL_set_session(ssl_, options.session);
  SSL_set_connect_state(ssl_);
  SSL_do_handshake(ssl_);
}

TlsClient::~TlsClient() {
  SSL_free(ssl_);
  SSL_CTX_free(context_);
}

std::string TlsClient::feed(std::span<const std::byte> bytes) {
  BIO_write(SSL_get_rbio(ssl_), bytes.data(), static_cast<int>(bytes.size()));
  std::string plain;
  std::array<char, 16384> buffer;
  ERR_clear_error();
  for (int count = 0; (count = SSL_read(ssl_, buffer.data(), buffer.size())) > 0;) {
    plain.append(buffer.data(), static_cast<std::size_t>(count));
  }
  ERR_clear_error();
  return plain;
}

void TlsClient::write(std::string_view plain) {
  if (SSL_write(ssl_, plain.data(), static_cast<int>(plain.size())) <= 0) throw std::runtime_error("no write");
}

void TlsClient::close() { SSL_shutdown(ssl_); }

std::string TlsClient::take_output() {
  char* data = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl_), &data);
  std::string bytes(data, static_cast<std::size_t>(std::max(size, 0L)));
  BIO_reset(SSL_get_wbio(ssl_));
  return bytes;
}

bool TlsClient::open() const { return SSL_is_init_finished(ssl_) == 1; }

bool TlsClient::peer_closed() const { return (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0; }

std::string TlsClient::server_certificate() const {
  BIO* text = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(text, SSL_get0_peer_certificate(ssl_));
  char* data = nullptr;
  const long size = BIO_get_mem_data(text, &data);
  std::string pem(data, static_cast<std::size_t>(size));
  BIO_free(text);
  return pem;
}

bool TlsClient::resumed() const { return SSL_session_reused(ssl_) == 1; }

ssl_session_st* TlsClient::session() const { return SSL_get1_session(ssl_); }

std::string talk(TlsClient& client, tls::Session& server, std::size_t piece) {
  std::string read;
  for (;;) {
    const std::string said = client.take_output();
    const auto answer = server.output();
    if (said.empty() && answer.empty()) return read;
    for (std::size_t at = 0; at < said.size(); at += std::min(piece, said.size() - at)) {
      server.feed(std::as_bytes(std::span(said)).subspan(at, std::min(piece, said.size() - at)), read);
    }
    while (!server.output().empty()) {
      const auto bytes = server.output().first(std::min(piece, server.output().size()));
      client.feed(bytes);
      server.sent(bytes.size());
    }
  }
}

}  // namespace mesh::test
