// SPDX-License-Identifier: Apache-2.0
#include "tls/issuer.hpp"

#include <openssl/rand.h>

#include <array>

#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace mesh::tls {
namespace {

constexpr std::chrono::minutes kClockSkew{5};
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;

std::string text_of(const BioPtr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::time_t seconds_of(base::WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

/// A serial number that nobody guesses, and a common name with part of it: authorities of one domain differ in it.
void set_names(X509* certificate, const std::string& name) {
  std::array<unsigned char, 16> bytes;
  MESH_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);  // positive, and never shorter
  BIGNUM* number = BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
  char* hex = BN_bn2hex(number);
  const std::string common = name + " " + std::string(hex).substr(0, 8);
  OPENSSL_free(hex);
  BN_free(number);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1, 0);
}

base::Result<void> add(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
    ERR_clear_error();
    return base::fail(base::ErrorKind::kInvalid, "put '" + value + "' into a certificate: the library refuses it");
  }
  return {};
}

IssuedPem texts_of(X509* certificate, EVP_PKEY* key) {
  const BioPtr certificate_text(BIO_new(BIO_s_mem()));
  const BioPtr key_text(BIO_new(BIO_s_mem()));
  MESH_ASSERT(PEM_write_bio_X509(certificate_text.get(), certificate) == 1 &&
              PEM_write_bio_PrivateKey(key_text.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return {text_of(certificate_text), text_of(key_text), time_of(X509_get0_notAfter(certificate))};
}

X509Ptr read_first(const std::string& pem) {
  const BioPtr text = read_only_bio(pem);
  X509Ptr read(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  return read;
}

}  // namespace

base::Result<IssuedPem> make_authority(const std::string& trust_domain, base::WallTime now, base::Duration life) {
  MESH_CHECK(check_trust_domain(trust_domain));
  const KeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr made(X509_new());
  MESH_ASSERT(key && made);
  X509_set_version(made.get(), X509_VERSION_3);
  set_names(made.get(), "meshd authority");
  X509_set_issuer_name(made.get(), X509_get_subject_name(made.get()));
  ASN1_TIME_set(X509_getm_notBefore(made.get()), seconds_of(now - kClockSkew));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), seconds_of(now + life));
  X509_set_pubkey(made.get(), key.get());
  MESH_CHECK(add(made.get(), made.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  MESH_CHECK(add(made.get(), made.get(), NID_key_usage, "critical,keyCertSign,cRLSign"));
  MESH_CHECK(add(made.get(), made.get(), NID_subject_key_identifier, "hash"));
  MESH_CHECK(add(made.get(), made.get(), NID_subject_alt_name, "URI:spiffe://" + trust_domain));
  MESH_ASSERT(X509_sign(made.get(), key.get(), EVP_sha256()) > 0);
  return texts_of(made.get(), key.get());
}

base::Result<std::string> trust_domain_of(const std::string& authority) {
  const X509Ptr issuer = read_first(authority);
  if (issuer) {
    const CertificateFacts facts = facts_of(issuer.get());
    const auto id = facts.uris.size() == 1 ? SpiffeId::parse(facts.uris.front())
                                           : base::fail(base::ErrorKind::kInvalid, "no single URI name");
    if (id && id->path.empty()) return id->trust_domain;
  }
  return base::fail(base::ErrorKind::kInvalid, "use the authority: its certificate names no trust domain",
                    "make one with `meshctl ca init`");
}

base::Result<IssuedPem> issue_svid(const std::string& authority, const std::string& authority_key, const SpiffeId& id,
                                   base::WallTime now, base::Duration life) {
  const std::string domain = MESH_TRY(trust_domain_of(authority));
  if (id.trust_domain != domain) {
    return base::fail(base::ErrorKind::kInvalid, "issue " + id.to_string() + ": the authority is that of " + domain,
                      "ask for spiffe://" + domain + id.path);
  }
  if (id.path.empty()) {
    return base::fail(base::ErrorKind::kInvalid, "issue " + id.to_string() + ": it names no workload",
                      "add a path: spiffe://" + domain + "/shop");
  }
  const X509Ptr issuer = read_first(authority);
  const BioPtr text = read_only_bio(authority_key);
  const KeyPtr issuer_key(PEM_read_bio_PrivateKey(text.get(), nullptr, no_passphrase, nullptr));
  if (!issuer_key || X509_check_private_key(issuer.get(), issuer_key.get()) != 1) {
    ERR_clear_error();
    return base::fail(base::ErrorKind::kInvalid, "use the authority: its key is not that of its certificate",
                      "put both files back as `meshctl ca init` or `meshctl ca rotate` wrote them");
  }
  const base::WallTime last = time_of(X509_get0_notAfter(issuer.get()));
  if (last <= now) {
    return base::fail(base::ErrorKind::kInvalid, "issue " + id.to_string() + ": the authority has expired",
                      "make a new one with `meshctl ca rotate`");
  }
  const KeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr made(X509_new());
  MESH_ASSERT(key && made);
  X509_set_version(made.get(), X509_VERSION_3);
  set_names(made.get(), "workload");
  X509_set_issuer_name(made.get(), X509_get_subject_name(issuer.get()));
  ASN1_TIME_set(X509_getm_notBefore(made.get()), seconds_of(now - kClockSkew));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), seconds_of(std::min(now + life, last)));
  X509_set_pubkey(made.get(), key.get());
  MESH_CHECK(add(made.get(), issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
  MESH_CHECK(add(made.get(), issuer.get(), NID_key_usage, "critical,digitalSignature"));
  MESH_CHECK(add(made.get(), issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth"));
  MESH_CHECK(add(made.get(), issuer.get(), NID_subject_key_identifier, "hash"));
  MESH_CHECK(add(made.get(), issuer.get(), NID_authority_key_identifier, "keyid:always"));
  MESH_CHECK(add(made.get(), issuer.get(), NID_subject_alt_name, "URI:" + id.to_string()));
  MESH_ASSERT(X509_sign(made.get(), issuer_key.get(), EVP_sha256()) > 0);
  return texts_of(made.get(), key.get());
}

}  // namespace mesh::tls
