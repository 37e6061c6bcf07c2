// SPDX-License-Identifier: Apache-2.0
#include "tls/library.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>

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

Library::~Library() {
  EVP_CIPHER_free(ticket_cipher_);
  OSSL_LIB_CTX_free(context_);
}

}  // namespace mesh::tls
