// SPDX-License-Identifier: Apache-2.0
// What verifying a peer's chain has in common, whoever it is verified for. For the files of this room.
#pragma once

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <optional>
#include <string_view>

#include "base/clock.hpp"
#include "tls/certificate.hpp"

namespace mesh::tls {

inline constexpr int kVerifyDepth = 4;

/// A result of X509_verify_cert() in words an operator knows; one of a fixed set.
std::string_view verify_error(long result);

/// Puts the authorities and their revocation lists into a store; for `clients`, unless null, also into the list that
/// clients are shown.
void add_authorities(X509_STORE* store, const Authorities& authorities, SSL_CTX* clients);

/// How long a chain that was found good stays good, while the authorities stay: the first end of its certificates and
/// of the revocation lists, and not for long, so that a clock that is set counts soon.
base::WallTime verified_until(X509_STORE_CTX* chain, std::optional<base::WallTime> lists_end);

}  // namespace mesh::tls
