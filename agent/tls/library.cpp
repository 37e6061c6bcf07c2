// SPDX-License-Identifier: Apache-2.0
#include "tls/library.hpp"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "base/error.hpp"

namespace mesh::tls {

std::shared_ptr<const Library> Library::make() {
  OSSL_LIB_CTX* context = OSSL_LIB_CTX_new();
  MESH_ASSERT(context != nullptr);
  return std::shared_ptr<const Library>(new Library(context));
}

std::shared_ptr<const Library> Library::shared() {
  static const std::shared_ptr<const Library> process(new Library(nullptr));
  return process;
}

Library::Library(OSSL_LIB_CTX* context)
    : context_(context), ticket_cipher_(EVP_CIPHER_fetch(context, "AES-256-CBC", nullptr)) {
  MESH_ASSERT(ticket_cipher_ != nullptr);
}

x509_store_st* Library::system_trust() const {
  std::call_once(system_trust_once_, [this] {
    system_trust_ = X509_STORE_new();
    MESH_ASSERT(system_trust_ != nullptr);
    X509_STORE_set_default_paths_ex(system_trust_, context_, nullptr);
    ERR_clear_error();  // a host without any trusts nobody
  });
  return system_trust_;
}

Library::~Library() {
  X509_STORE_free(system_trust_);
  EVP_CIPHER_free(ticket_cipher_);
  OSSL_LIB_CTX_free(context_);
}

}  // namespace mesh::tls
