// SPDX-License-Identifier: Apache-2.0
#include "tls/server.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <ctime>

namespace mesh::tls {
namespace {

constexpr const char* kTls12Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

template <typename T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
using Bio = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;

Bio text_of(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

/// Nobody sits at a terminal to type a passphrase.
int no_passphrase(char*, int, int, void*) { return -1; }

std::unexpected<base::Error> refused(std::string message, std::string remedy) {
  ERR_clear_error();
  return base::fail(base::ErrorKind::kInvalid, std::move(message), std::move(remedy));
}

base::WallTime time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return base::WallTime{std::chrono::seconds(::timegm(&parts))};
}

}  // namespace

base::Result<std::shared_ptr<const ServerContext>> ServerContext::make(const std::string& certificate,
                                                                       const std::string& key) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  MESH_ASSERT(context != nullptr);
  std::shared_ptr<ServerContext> made(new ServerContext(context));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_cipher_list(context, kTls12Ciphers);

  ERR_clear_error();
  const Bio certificates = text_of(certificate);
  const Certificate own(PEM_read_bio_X509(certificates.get(), nullptr, no_passphrase, nullptr));
  if (!own)
    return refused("use the certificate: it is no PEM certificate", "it begins with -----BEGIN CERTIFICATE-----");
  if (SSL_CTX_use_certificate(context, own.get()) != 1) {
    return refused("use the certificate: " + library_error(), "use one with an RSA key of 2048 bits or an EC key");
  }
  while (X509* above = PEM_read_bio_X509(certificates.get(), nullptr, no_passphrase, nullptr)) {
    if (SSL_CTX_add0_chain_cert(context, above) != 1) {
      X509_free(above);
      return refused("use the certificate's chain: " + library_error(), "it has the issuers' certificates in order");
    }
  }
  if (const auto end = ERR_peek_last_error(); ERR_GET_REASON(end) != PEM_R_NO_START_LINE) {
    return refused("use the certificate's chain: " + library_error(), "one of its certificates is damaged");
  }
  ERR_clear_error();  // of the end of the text
  const Bio keys = text_of(key);
  const PrivateKey own_key(PEM_read_bio_PrivateKey(keys.get(), nullptr, no_passphrase, nullptr));
  if (!own_key) {
    return refused("use the key: it is no PEM private key without passphrase",
                   "it begins with -----BEGIN PRIVATE KEY-----");
  }
  if (SSL_CTX_use_PrivateKey(context, own_key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return refused("use the key: it is not that of the certificate", "replace both files");
  }
  made->expires_ = time_of(X509_get0_notAfter(own.get()));
  return made;
}

ServerContext::~ServerContext() { SSL_CTX_free(context_); }

ServerSession::ServerSession(std::shared_ptr<const ServerContext> context)
    : Session(SSL_new(context->context_)), context_(std::move(context)) {
  SSL_set_accept_state(ssl());
}

}  // namespace mesh::tls
