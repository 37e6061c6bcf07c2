// SPDX-License-Identifier: Apache-2.0
#include "tests/support/certificate.hpp"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

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

/// `extension`: what the certificate says besides its name, such as NID_subject_alt_name and "DNS:a.test".
CertificatePem make(const std::string& name, int extension, const std::string& value,
                    std::chrono::system_clock::time_point end, const CertificatePem* issuer) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* made = X509_new();
  if (key == nullptr || made == nullptr) throw std::runtime_error("OpenSSL makes no certificate");
  X509_set_version(made, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
  const auto seconds = std::chrono::system_clock::to_time_t(end);
  ASN1_TIME_set(X509_getm_notBefore(made), seconds - 24 * 3600);
  ASN1_TIME_set(X509_getm_notAfter(made), seconds);
  X509_set_pubkey(made, key);
  X509_NAME* subject = X509_get_subject_name(made);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                             0);
  X509_EXTENSION* said = X509V3_EXT_conf_nid(nullptr, nullptr, extension, value.c_str());
  if (said == nullptr) throw std::runtime_error("OpenSSL takes no '" + value + "' into a certificate");
  X509_add_ext(made, said, -1);
  X509_EXTENSION_free(said);
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
                                    const CertificatePem* issuer) {
  return make("meshd test", NID_subject_alt_name, names, end, issuer);
}

CertificatePem make_authority(const std::string& name, std::chrono::system_clock::time_point end,
                              const CertificatePem* issuer) {
  return make(name, NID_basic_constraints, "critical,CA:TRUE", end, issuer);
}

CertificatePem make_certificate(const std::string& name, std::chrono::system_clock::time_point end) {
  return make(name, NID_subject_alt_name, "DNS:" + name, end, nullptr);
}

}  // namespace mesh::test
