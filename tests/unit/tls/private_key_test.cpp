// SPDX-License-Identifier: Apache-2.0
#include "tls/private_key.hpp"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tests/support/certificate.hpp"

namespace mesh::tls {
namespace {

std::string unhex(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

const unsigned char* data(const std::string& bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

/// As OpenSSL verifies, of r and s of 32 bytes each.
bool verifies(const std::string& pem, const std::string& raw, const std::string& text) {
  BIO* in = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO_free(in);
  ECDSA_SIG* signature = ECDSA_SIG_new();
  ECDSA_SIG_set0(signature, BN_bin2bn(data(raw), 32, nullptr), BN_bin2bn(data(raw) + 32, 32, nullptr));
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature, &der);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool good = raw.size() == 64 && EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, key) == 1 &&
                    EVP_DigestVerify(context, der, static_cast<std::size_t>(size), data(text), text.size()) == 1;
  EVP_MD_CTX_free(context);
  OPENSSL_free(der);
  ECDSA_SIG_free(signature);
  EVP_PKEY_free(key);
  return good;
}

TEST(PrivateKey, signs_so_that_openssl_verifies_and_survives_its_pem) {
  const PrivateKey key = PrivateKey::make(KeyType::kEcP256);
  EXPECT_TRUE(key.is_p256());
  const auto again = PrivateKey::parse(key.pem());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->point(), key.point());
  EXPECT_EQ(key.point().size(), 64U);
  for (int i = 0; i < 300; ++i) {  // so that r or s has leading zeros once
    EXPECT_TRUE(verifies(key.pem(), key.sign_es256("text"), "text"));
  }
  EXPECT_FALSE(verifies(key.pem(), key.sign_es256("text"), "another"));
  EXPECT_FALSE(PrivateKey::make(KeyType::kEcP384).is_p256());
  EXPECT_FALSE(PrivateKey::make(KeyType::kRsa2048).is_p256());
  EXPECT_FALSE(PrivateKey::parse("-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"));
}

TEST(PrivateKey, requests_a_certificate_for_its_names) {
  for (const KeyType type : {KeyType::kEcP256, KeyType::kEcP384, KeyType::kRsa2048}) {
    const std::string der = PrivateKey::make(type).request({"shop.test", "www.shop.test"});
    const unsigned char* at = data(der);
    X509_REQ* request = d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size()));
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(X509_REQ_verify(request, X509_REQ_get0_pubkey(request)), 1);
    STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request);
    auto* names = static_cast<GENERAL_NAMES*>(X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr));
    ASSERT_EQ(sk_GENERAL_NAME_num(names), 2);
    const ASN1_STRING* second = sk_GENERAL_NAME_value(names, 1)->d.dNSName;
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(second))), "www.shop.test");
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
  }
}

TEST(ChallengeCertificate, has_the_name_alone_and_the_digest_in_a_critical_extension) {
  const std::string digest = sha256("token.thumbprint");
  const auto made = challenge_certificate("shop.test", digest, base::wall_now());
  EXPECT_EQ(made->facts().dns_names, std::vector<std::string>{"shop.test"});
  BIO* in = BIO_new_mem_buf(made->chain_pem().data(), -1);
  X509* certificate = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
  BIO_free(in);
  ASN1_OBJECT* type = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
  const int at = X509_get_ext_by_OBJ(certificate, type, -1);
  ASSERT_GE(at, 0);
  X509_EXTENSION* extension = X509_get_ext(certificate, at);
  EXPECT_EQ(X509_EXTENSION_get_critical(extension), 1);
  const ASN1_STRING* value = X509_EXTENSION_get_data(extension);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                        static_cast<std::size_t>(ASN1_STRING_length(value))),
            "\x04\x20" + digest);
  ASN1_OBJECT_free(type);
  X509_free(certificate);
}

TEST(RenewalId, is_that_of_the_example_of_rfc_9773) {
  const RenewalId id = renewal_id(
      "-----BEGIN CERTIFICATE-----\n"
      "MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt\n"
      "cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS\n"
      "BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu\n"
      "7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf\n"
      "qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B\n"
      "yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb\n"
      "+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK\n"
      "-----END CERTIFICATE-----\n");
  EXPECT_EQ(id.key_identifier, unhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4"));
  EXPECT_EQ(id.serial, unhex("0087654321"));
  EXPECT_EQ(renewal_id("nothing").serial, "");
  const auto plain = test::make_certificate("a.test", std::chrono::system_clock::now() + std::chrono::hours(1));
  EXPECT_EQ(renewal_id(plain.certificate).key_identifier, "") << "it names no key identifier";
}

}  // namespace
}  // namespace mesh::tls
