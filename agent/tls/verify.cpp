// SPDX-License-Identifier: Apache-2.0
#include "tls/verify.hpp"

#include <algorithm>

#include "tls/openssl.hpp"

namespace mesh::tls {
namespace {

constexpr std::chrono::minutes kVerifiedFor{10};

}  // namespace

std::string_view verify_error(long result) {
  switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "certificate expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "certificate not yet valid";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return "self-signed certificate";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "name mismatch";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:  // it brought its own authority along
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return "unknown issuer";
    case X509_V_ERR_CERT_REVOKED:
      return "certificate revoked";
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return "revocation list out of date";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
      return "no revocation list of the issuer";
    case X509_V_ERR_INVALID_PURPOSE:
      return "certificate is not for this use";
    default:
      return X509_verify_cert_error_string(result);
  }
}

void add_authorities(X509_STORE* store, const Authorities& authorities, SSL_CTX* clients) {
  const BioPtr certificates = read_only_bio(authorities.certificates_pem());
  while (const X509Ptr one{PEM_read_bio_X509(certificates.get(), nullptr, no_passphrase, nullptr)}) {
    X509_STORE_add_cert(store, one.get());
    if (clients != nullptr) SSL_CTX_add_client_CA(clients, one.get());
  }
  const BioPtr revoked = read_only_bio(authorities.revoked_pem());
  while (const X509CrlPtr list{PEM_read_bio_X509_CRL(revoked.get(), nullptr, no_passphrase, nullptr)}) {
    X509_STORE_add_crl(store, list.get());
  }
  if (!authorities.revoked_pem().empty()) {
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  }
  ERR_clear_error();  // of the ends of the texts
}

base::WallTime verified_until(X509_STORE_CTX* chain, std::optional<base::WallTime> lists_end) {
  base::WallTime until = base::wall_now() + kVerifiedFor;
  until = std::min(until, lists_end.value_or(until));
  const STACK_OF(X509)* followed = X509_STORE_CTX_get0_chain(chain);
  for (int i = 0; i < sk_X509_num(followed); ++i) {
    until = std::min(until, time_of(X509_get0_notAfter(sk_X509_value(followed, i))));
  }
  return until;
}

}  // namespace mesh::tls
