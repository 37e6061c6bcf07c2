// SPDX-License-Identifier: Apache-2.0
#include "tests/support/certificate.hpp"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <stdexcept>

namespace mesh::test {
namespace {

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

X509* read_certificate(const std::string& pem) {
  BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* read = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
  BIO_free(text);
  return read;
}

EVP_PKEY* read_key(const std::string& pem) {
  BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  EVP_PKEY* read = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
  BIO_free(text);
  return read;
}

CertificatePem make(const std::string& name, const std::vector<CertificateExtension>& extensions,
                    std::chrono::system_clock::time_point end, const CertificatePem* issuer,
                    KeyKind kind = KeyKind::kEc256) {
  EVP_PKEY* key = kind == KeyKind::kEc256 ? EVP_EC_gen("P-256") : EVP_RSA_gen(kind == KeyKind::kRsa2048 ? 2048 : 1024);
  X509* made = X509_new();
  if (key == nullptr || made == nullptr) throw std::runtime_error("OpenSSL makes no certificate");
  X509_set_version(made, X509_VERSION_3);
  static std::atomic<long> serial = 0;
  ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial);
  const auto seconds = std::chrono::system_clock::to_time_t(end);
  ASN1_TIME_set(X509_getm_notBefore(made), seconds - 24 * 3600);
  ASN1_TIME_set(X509_getm_notAfter(made), seconds);
  X509_set_pubkey(made, key);
  X509_NAME* subject = X509_get_subject_name(made);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                             0);
  for (const auto& [extension, value] : extensions) {
    X509_EXTENSION* said = X509V3_EXT_conf(nullptr, nullptr, extension.c_str(), value.c_str());
    if (said == nullptr) throw std::runtime_error("OpenSSL takes no '" + value + "' into a certificate");
    X509_add_ext(made, said, -1);
    X509_EXTENSION_free(said);
  }
  if (issuer == nullptr) {
    X509_set_issuer_name(made, subject);
    X509_sign(made, key, EVP_sha256());
  } else {
    X509* authority = read_certificate(issuer->certificate);
    EVP_PKEY* authority_key = read_key(issuer->key);
    if (authority == nullptr || authority_key == nullptr) throw std::runtime_error("OpenSSL reads no issuer");
    X509_set_issuer_name(made, X509_get_subject_name(authority));
    X509_sign(made, authority_key, EVP_sha256());
    X509_free(authority);
    EVP_PKEY_free(authority_key);
  }

  BIO* certificate_text = BIO_new(BIO_s_mem());
  BIO* key_text = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(certificate_text, made);
  PEM_write_bio_PrivateKey(key_text, key, nullptr, nullptr, 0, nullptr, nullptr);
  X509_free(made);
  EVP_PKEY_free(key);
  return {text_of(certificate_text), text_of(key_text)};
}

}  // namespace

CertificatePem make_certificate_for(const std::string& names, std::chrono::system_clock::time_point end,
                                    const CertificatePem* issuer, KeyKind kind) {
  return make("meshd test", {{"subjectAltName", names}}, end, issuer, kind);
}

CertificatePem make_authority(const std::string& name, std::chrono::system_clock::time_point end,
                              const CertificatePem* issuer) {
  return make(name, {{"basicConstraints", "critical,CA:TRUE"}}, end, issuer);
}

CertificatePem make_certificate(const std::string& name, std::chrono::system_clock::time_point end) {
  return make(name, {{"subjectAltName", "DNS:" + name}}, end, nullptr);
}

CertificatePem make_leaf(const std::vector<CertificateExtension>& extensions, std::chrono::system_clock::time_point end,
                         const CertificatePem* issuer) {
  return make("workload", extensions, end, issuer);
}

CertificatePem make_svid(const std::string& id, std::chrono::system_clock::time_point end,
                         const CertificatePem& issuer) {
  return make("workload",
              {{"subjectAltName", "URI:" + id},
               {"basicConstraints", "critical,CA:FALSE"},
               {"keyUsage", "critical,digitalSignature"},
               {"extendedKeyUsage", "serverAuth,clientAuth"}},
              end, &issuer);
}

std::string make_revocation_list(const CertificatePem& issuer, const std::vector<CertificatePem>& revoked,
                                 std::chrono::system_clock::time_point next_update) {
  X509* authority = read_certificate(issuer.certificate);
  EVP_PKEY* key = read_key(issuer.key);
  X509_CRL* list = X509_CRL_new();
  if (authority == nullptr || key == nullptr || list == nullptr) throw std::runtime_error("OpenSSL makes no list");
  X509_CRL_set_version(list, X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list, X509_get_subject_name(authority));
  const auto next = std::chrono::system_clock::to_time_t(next_update);
  ASN1_TIME* time = ASN1_TIME_set(nullptr, next - 48 * 3600);
  X509_CRL_set1_lastUpdate(list, time);
  for (const CertificatePem& pem : revoked) {
    X509* certificate = read_certificate(pem.certificate);
    X509_REVOKED* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate));
    X509_REVOKED_set_revocationDate(entry, time);
    X509_CRL_add0_revoked(list, entry);
    X509_free(certificate);
  }
  ASN1_TIME_set(time, next);
  X509_CRL_set1_nextUpdate(list, time);
  ASN1_TIME_free(time);
  X509_CRL_sort(list);
  X509_CRL_sign(list, key, EVP_sha256());
  BIO* text = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_CRL(text, list);
  X509_CRL_free(list);
  EVP_PKEY_free(key);
  X509_free(authority);
  return text_of(text);
}

}  // namespace mesh::test
