// SPDX-License-Identifier: Apache-2.0
#include "tls/svid.hpp"

#include <array>

#include "tls/openssl.hpp"
#include "tls/verify.hpp"

namespace mesh::tls {
namespace {

constexpr int kSecurityLevel = 2;  // 112 bits, as certificates of our own have to have

using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>>;

}  // namespace

std::string_view to_string(SvidFault fault) {
  constexpr std::array<std::string_view, kSvidFaults> kTexts = {
      "",
      "certificate has no SPIFFE ID",
      "certificate has several URI names",
      "certificate's URI name is no SPIFFE ID",
      "certificate names a trust domain and no workload",
      "certificate is an authority's",
      "certificate's key usage is not digital signature",
      "certificate's key usage is to sign certificates",
      "certificate is not for both server and client authentication",
  };
  return kTexts[static_cast<std::size_t>(fault)];
}

SvidCheck check_svid(X509* certificate) {
  const auto refused = [](SvidFault fault) { return SvidCheck{.fault = fault, .id = {}}; };
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  const ASN1_IA5STRING* uri = nullptr;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    if (uri != nullptr) return refused(SvidFault::kSeveralUris);
    uri = name->d.uniformResourceIdentifier;
  }
  if (uri == nullptr) return refused(SvidFault::kNoUri);
  auto id = SpiffeId::parse(
      {reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), static_cast<std::size_t>(ASN1_STRING_length(uri))});
  if (!id) return refused(SvidFault::kNotSpiffe);
  if (id->path.empty()) return refused(SvidFault::kNoPath);
  const std::uint32_t flags = X509_get_extension_flags(certificate);
  if ((flags & EXFLAG_CA) != 0) return refused(SvidFault::kAuthority);
  const std::uint32_t usage = (flags & EXFLAG_KUSAGE) != 0 ? X509_get_key_usage(certificate) : 0;
  if ((usage & KU_DIGITAL_SIGNATURE) == 0) return refused(SvidFault::kNoSignature);
  if ((usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0) return refused(SvidFault::kSignsOthers);
  constexpr std::uint32_t kBoth = XKU_SSL_SERVER | XKU_SSL_CLIENT;
  if ((flags & EXFLAG_XKUSAGE) != 0 && (X509_get_extended_key_usage(certificate) & kBoth) != kBoth) {
    return refused(SvidFault::kExtendedHalf);
  }
  return {.fault = SvidFault::kNone, .id = std::move(*id)};
}

base::Result<SpiffeId> svid_of(const Certificate& certificate) {
  const BioPtr text = read_only_bio(certificate.chain_pem());
  const X509Ptr leaf(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
  MESH_ASSERT(leaf != nullptr);  // parse() read it
  SvidCheck check = check_svid(leaf.get());
  if (check.fault == SvidFault::kNone) return std::move(check.id);
  return base::fail(base::ErrorKind::kInvalid,
                    "use the certificate as an identity: " + std::string(to_string(check.fault)),
                    "use an X509-SVID; `meshctl ca issue` makes one");
}

std::string Trust::mark() const {
  std::string mark;
  for (const auto& [domain, authorities] : bundles_) {
    for (const std::string_view part : {std::string_view(domain), std::string_view(authorities->certificates_pem()),
                                        std::string_view(authorities->revoked_pem())}) {
      mark += std::to_string(part.size()) + ':' + std::string(part);
    }
  }
  return mark;
}

TrustStores::TrustStores(std::shared_ptr<const Trust> trust, OSSL_LIB_CTX* library)
    : trust_(std::move(trust)), library_(library) {
  for (const auto& [domain, authorities] : trust_->bundles()) {
    X509_STORE* store = stores_[domain] = X509_STORE_new();
    MESH_ASSERT(store != nullptr);
    add_authorities(store, *authorities, nullptr);
  }
}

TrustStores::~TrustStores() {
  for (const auto& [domain, store] : stores_) X509_STORE_free(store);
}

TrustStores::Verdict TrustStores::verify(X509* leaf, STACK_OF(X509) * untrusted, PeerSide side) const {
  SvidCheck check = check_svid(leaf);
  if (check.fault != SvidFault::kNone) {
    return {.refusal = to_string(check.fault), .fault = X509_V_ERR_APPLICATION_VERIFICATION};
  }
  const auto store = stores_.find(check.id.trust_domain);
  if (store == stores_.end()) {
    return {.refusal = "unknown trust domain", .fault = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY};
  }
  const StoreContextPtr chain(X509_STORE_CTX_new_ex(library_, nullptr));
  MESH_ASSERT(chain && X509_STORE_CTX_init(chain.get(), store->second, leaf, untrusted) == 1);
  X509_STORE_CTX_set_default(chain.get(), side == PeerSide::kClient ? "ssl_client" : "ssl_server");
  X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(chain.get());
  X509_VERIFY_PARAM_set_depth(rules, kVerifyDepth);
  X509_VERIFY_PARAM_set_auth_level(rules, kSecurityLevel);
  const bool good = X509_verify_cert(chain.get()) == 1;
  ERR_clear_error();
  if (!good) {
    const int fault = X509_STORE_CTX_get_error(chain.get());
    return {.refusal = verify_error(fault), .fault = fault};
  }
  return {.id = std::move(check.id),
          .until = verified_until(chain.get(), trust_->bundles().find(store->first)->second->lists_end())};
}

}  // namespace mesh::tls
