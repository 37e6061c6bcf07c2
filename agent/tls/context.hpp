// SPDX-License-Identifier: Apache-2.0
// What contexts of both sides have in common. For the files of this room.
#pragma once

#include <vector>

#include "base/error.hpp"
#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace mesh::tls {

/// Forward secrecy and authenticated encryption only.
void set_algorithms(ssl_ctx_st* context);
/// The certificate and then its chain, and its key, as objects of `library`.
std::vector<X509Ptr> read_chain(ossl_lib_ctx_st* library, const Certificate& certificate);
KeyPtr read_key(ossl_lib_ctx_st* library, const Certificate& certificate);
/// The certificate, its chain and key that the side shows. kInvalid if the library refuses what parse() took.
base::Result<void> use(ssl_ctx_st* context, ossl_lib_ctx_st* library, const Certificate& certificate);
/// Who may have issued the peer's certificate, and what they revoked.
void trust(ssl_ctx_st* context, const Authorities& authorities);

}  // namespace mesh::tls
