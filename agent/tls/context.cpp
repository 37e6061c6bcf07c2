// SPDX-License-Identifier: Apache-2.0
#include "tls/context.hpp"

#include <vector>

#include "tls/openssl.hpp"
#include "tls/session.hpp"
#include "tls/verify.hpp"

namespace mesh::tls {
namespace {

constexpr const char* kTls12Ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* kTls13Ciphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr const char* kSignatures =
    "ECDSA+SHA256:RSA-PSS+SHA256:ed25519:ECDSA+SHA384:RSA-PSS+SHA384:ECDSA+SHA512:RSA-PSS+SHA512:"
    "RSA+SHA256:RSA+SHA384:RSA+SHA512";

std::unexpected<base::Error> refused(const std::string& what, const Certificate& certificate) {
  return base::fail(base::ErrorKind::kInvalid, what + " of " + certificate.facts().subject + ": " + library_error(),
                    "use a certificate with an RSA key of 2048 bits or an EC key");
}

}  // namespace

void set_algorithms(SSL_CTX* context) {
  MESH_ASSERT(SSL_CTX_set_cipher_list(context, kTls12Ciphers) == 1 &&
              SSL_CTX_set_ciphersuites(context, kTls13Ciphers) == 1 &&
              SSL_CTX_set1_groups_list(context, kGroups) == 1 && SSL_CTX_set1_sigalgs_list(context, kSignatures) == 1);
}

std::vector<X509Ptr> read_chain(OSSL_LIB_CTX* library, const Certificate& certificate) {
  ERR_clear_error();
  const BioPtr chain = read_only_bio(certificate.chain_pem());
  std::vector<X509Ptr> read;
  for (;;) {
    X509* one = X509_new_ex(library, nullptr);
    if (PEM_read_bio_X509(chain.get(), &one, no_passphrase, nullptr) == nullptr) {
      X509_free(one);
      break;
    }
    read.emplace_back(one);
  }
  ERR_clear_error();           // of the end of the text
  MESH_ASSERT(!read.empty());  // parse() read it, and the key
  return read;
}

KeyPtr read_key(OSSL_LIB_CTX* library, const Certificate& certificate) {
  const BioPtr text = read_only_bio(certificate.key_pem());
  KeyPtr key(PEM_read_bio_PrivateKey_ex(text.get(), nullptr, no_passphrase, nullptr, library, nullptr));
  MESH_ASSERT(key);
  return key;
}

base::Result<void> use(SSL_CTX* context, OSSL_LIB_CTX* library, const Certificate& certificate) {
  const std::vector<X509Ptr> read = read_chain(library, certificate);
  const KeyPtr key = read_key(library, certificate);
  if (SSL_CTX_use_certificate(context, read.front().get()) != 1) return refused("use the certificate", certificate);
  SSL_CTX_clear_chain_certs(context);
  for (std::size_t i = 1; i < read.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, read[i].get()) != 1) return refused("use the chain", certificate);
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) return refused("use the key", certificate);
  return {};
}

void trust(SSL_CTX* context, const Authorities& authorities) {
  add_authorities(SSL_CTX_get_cert_store(context), authorities, context);
}

}  // namespace mesh::tls
