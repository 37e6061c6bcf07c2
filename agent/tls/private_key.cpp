// SPDX-License-Identifier: Apache-2.0
#include "tls/private_key.hpp"

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>

#include "tls/openssl.hpp"
#include "tls/session.hpp"

namespace mesh::tls {
namespace {

constexpr std::size_t kCoordinateBytes = 32;  // of P-256
constexpr auto kChallengeLife = std::chrono::hours(24);

using RequestPtr = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using SignaturePtr = std::unique_ptr<ECDSA_SIG, Freer<ECDSA_SIG_free>>;
using DigestPtr = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>>;
using OctetsPtr = std::unique_ptr<ASN1_OCTET_STRING, Freer<ASN1_OCTET_STRING_free>>;
using ObjectPtr = std::unique_ptr<ASN1_OBJECT, Freer<ASN1_OBJECT_free>>;
using KeyIdPtr = std::unique_ptr<AUTHORITY_KEYID, Freer<AUTHORITY_KEYID_free>>;

unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

ExtensionPtr alternative_names(const std::vector<std::string>& names) {
  const NamesPtr list(sk_GENERAL_NAME_new_null());
  for (const std::string& name : names) {
    ASN1_IA5STRING* text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, name.data(), static_cast<int>(name.size()));
    GENERAL_NAME* one = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(one, GEN_DNS, text);
    sk_GENERAL_NAME_push(list.get(), one);
  }
  return ExtensionPtr(X509V3_EXT_i2d(NID_subject_alt_name, 0, list.get()));
}

/// An octet string with the digest, inside of the octet string that every extension is.
ExtensionPtr acme_identifier(std::string_view digest) {
  std::string der = {V_ASN1_OCTET_STRING, static_cast<char>(digest.size())};
  der += digest;
  const OctetsPtr value(ASN1_OCTET_STRING_new());
  ASN1_OCTET_STRING_set(value.get(), bytes_of(der), static_cast<int>(der.size()));
  const ObjectPtr type(OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1));
  return ExtensionPtr(X509_EXTENSION_create_by_OBJ(nullptr, type.get(), 1, value.get()));
}

}  // namespace

PrivateKey::PrivateKey(evp_pkey_st* key) : key_(key, EVP_PKEY_free) { MESH_ASSERT(key != nullptr); }

PrivateKey PrivateKey::make(KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return PrivateKey(EVP_EC_gen("P-256"));
    case KeyType::kEcP384:
      return PrivateKey(EVP_EC_gen("P-384"));
    case KeyType::kRsa2048:
      break;
  }
  return PrivateKey(EVP_RSA_gen(2048));
}

base::Result<PrivateKey> PrivateKey::parse(std::string_view pem) {
  const BioPtr text = read_only_bio(pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(text.get(), nullptr, no_passphrase, nullptr);
  if (key != nullptr) return PrivateKey(key);
  ERR_clear_error();
  return base::fail(base::ErrorKind::kInvalid, "use the key: it is no PEM private key without passphrase",
                    "it begins with -----BEGIN PRIVATE KEY-----");
}

std::string PrivateKey::pem() const {
  const BioPtr text(BIO_new(BIO_s_secmem()));
  MESH_ASSERT(PEM_write_bio_PrivateKey(text.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return text_of(text.get());
}

bool PrivateKey::is_p256() const {
  std::array<char, 64> group{};
  const bool named = EVP_PKEY_get_group_name(key_.get(), group.data(), group.size(), nullptr) == 1;
  ERR_clear_error();
  return named && std::string_view(group.data()) == SN_X9_62_prime256v1;
}

std::string PrivateKey::point() const {
  std::array<unsigned char, 1 + 2 * kCoordinateBytes> encoded{};
  std::size_t size = 0;
  MESH_ASSERT(EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded.data(), encoded.size(),
                                              &size) == 1 &&
              size == encoded.size() && encoded[0] == POINT_CONVERSION_UNCOMPRESSED);
  return {reinterpret_cast<const char*>(encoded.data()) + 1, encoded.size() - 1};
}

std::string PrivateKey::sign_es256(std::string_view text) const {
  const DigestPtr context(EVP_MD_CTX_new());
  std::array<unsigned char, 80> der{};
  std::size_t size = der.size();
  MESH_ASSERT(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
              EVP_DigestSign(context.get(), der.data(), &size, bytes_of(text), text.size()) == 1);
  const unsigned char* at = der.data();
  const SignaturePtr signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  std::string raw(2 * kCoordinateBytes, '\0');
  MESH_ASSERT(signature && BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), bytes_of(raw), kCoordinateBytes) > 0 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), bytes_of(raw) + kCoordinateBytes, kCoordinateBytes) > 0);
  return raw;
}

std::string PrivateKey::request(const std::vector<std::string>& names) const {
  const RequestPtr request(X509_REQ_new());
  STACK_OF(X509_EXTENSION)* extensions = sk_X509_EXTENSION_new_null();
  sk_X509_EXTENSION_push(extensions, alternative_names(names).release());
  const int added = X509_REQ_add_extensions(request.get(), extensions);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  unsigned char* der = nullptr;
  MESH_ASSERT(added == 1 && X509_REQ_set_pubkey(request.get(), key_.get()) == 1 &&
              X509_REQ_sign(request.get(), key_.get(), EVP_sha256()) > 0);
  const int size = i2d_X509_REQ(request.get(), &der);
  MESH_ASSERT(size > 0);
  std::string bytes(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return bytes;
}

std::shared_ptr<const Certificate> challenge_certificate(const std::string& name, std::string_view digest,
                                                         base::WallTime now) {
  const KeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr made(X509_new());
  MESH_ASSERT(key && made);
  X509_set_version(made.get(), X509_VERSION_3);
  std::uint64_t serial = 0;
  MESH_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial)) == 1);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.get()), serial | 1);
  const std::time_t seconds =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(now));
  constexpr std::time_t kLife = std::chrono::seconds(kChallengeLife).count();
  ASN1_TIME_set(X509_getm_notBefore(made.get()), seconds - kLife);
  ASN1_TIME_set(X509_getm_notAfter(made.get()), seconds + kLife);
  X509_NAME* subject = X509_get_subject_name(made.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, bytes_of(std::string_view("challenge")), -1, -1, 0);
  X509_set_issuer_name(made.get(), subject);
  X509_set_pubkey(made.get(), key.get());
  X509_add_ext(made.get(), alternative_names({name}).get(), -1);
  X509_add_ext(made.get(), acme_identifier(digest).get(), -1);
  MESH_ASSERT(X509_sign(made.get(), key.get(), EVP_sha256()) > 0);
  const BioPtr chain(BIO_new(BIO_s_mem()));
  const BioPtr own_key(BIO_new(BIO_s_mem()));
  MESH_ASSERT(PEM_write_bio_X509(chain.get(), made.get()) == 1 &&
              PEM_write_bio_PrivateKey(own_key.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  auto certificate = Certificate::parse(text_of(chain.get()), text_of(own_key.get()));
  MESH_ASSERT(certificate);
  return *certificate;
}

RenewalId renewal_id(std::string_view pem) {
  const BioPtr text = read_only_bio(pem);
  const X509Ptr certificate(PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (!certificate) return {};
  const KeyIdPtr issuer(static_cast<AUTHORITY_KEYID*>(
      X509_get_ext_d2i(certificate.get(), NID_authority_key_identifier, nullptr, nullptr)));
  if (!issuer || issuer->keyid == nullptr) return {};
  RenewalId id{.key_identifier = {reinterpret_cast<const char*>(ASN1_STRING_get0_data(issuer->keyid)),
                                  static_cast<std::size_t>(ASN1_STRING_length(issuer->keyid))}};
  unsigned char* der = nullptr;
  const int size = i2d_ASN1_INTEGER(X509_get0_serialNumber(certificate.get()), &der);
  if (size > 2) id.serial.assign(reinterpret_cast<const char*>(der) + 2, static_cast<std::size_t>(size - 2));
  OPENSSL_free(der);
  return id;
}

std::string sha256(std::string_view text) {
  std::string digest(32, '\0');
  MESH_ASSERT(EVP_Digest(text.data(), text.size(), bytes_of(digest), nullptr, EVP_sha256(), nullptr) == 1);
  return digest;
}

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::string mac(32, '\0');
  MESH_ASSERT(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text), text.size(), bytes_of(mac),
                   nullptr) != nullptr);
  return mac;
}

}  // namespace mesh::tls
