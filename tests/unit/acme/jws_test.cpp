// SPDX-License-Identifier: Apache-2.0
// Against the examples of RFC 7515 and what openssl says of the key there.
#include "acme/jws.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <nlohmann/json.hpp>

namespace mesh::acme {
namespace {

using Json = nlohmann::json;

// RFC 7515, A.3: its x, y and d.
constexpr std::string_view kX = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
constexpr std::string_view kY = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
constexpr std::string_view kD = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

tls::PrivateKey example_key() {
  // SEC 1: version 1, the number, the curve prime256v1, the point.
  const std::string der = std::string("\x30\x77\x02\x01\x01\x04\x20", 7) + *base64url_decode(kD) +
                          std::string("\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\xa1\x44\x03\x42\x00\x04", 18) +
                          *base64url_decode(kX) + *base64url_decode(kY);
  std::string base64 = base64url(der);
  for (char& c : base64) c = c == '-' ? '+' : c == '_' ? '/' : c;
  while (base64.size() % 4 != 0) base64 += '=';
  std::string pem = "-----BEGIN EC PRIVATE KEY-----\n";
  for (std::size_t i = 0; i < base64.size(); i += 64) pem += base64.substr(i, 64) + "\n";
  return *tls::PrivateKey::parse(pem + "-----END EC PRIVATE KEY-----\n");
}

/// With OpenSSL and nothing of the agent's.
bool verifies(const tls::PrivateKey& key, const std::string& input, const std::string& raw) {
  const std::string pem = key.pem();
  BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  EVP_PKEY* read = PEM_read_bio_PrivateKey(text, nullptr, nullptr, nullptr);
  BIO_free(text);
  const auto bytes = [](const std::string& from) { return reinterpret_cast<const unsigned char*>(from.data()); };
  ECDSA_SIG* signature = ECDSA_SIG_new();
  ECDSA_SIG_set0(signature, BN_bin2bn(bytes(raw), 32, nullptr), BN_bin2bn(bytes(raw) + 32, 32, nullptr));
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature, &der);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool good = EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, read) == 1 &&
                    EVP_DigestVerify(context, der, static_cast<std::size_t>(size), bytes(input), input.size()) == 1;
  EVP_MD_CTX_free(context);
  OPENSSL_free(der);
  ECDSA_SIG_free(signature);
  EVP_PKEY_free(read);
  return good;
}

TEST(Base64Url, goes_both_ways_and_refuses_what_is_none) {
  std::string all;
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(base64url_decode(base64url(all)), all);
    all += static_cast<char>(i);
  }
  EXPECT_EQ(base64url("\xff\xfe\xfd"), "__79");
  EXPECT_EQ(base64url_decode("Zg=="), "f");
  EXPECT_EQ(base64url_decode("Zg"), "f");
  for (const char* wrong : {"A", "+///", "a b=", "ABCDE"}) EXPECT_FALSE(base64url_decode(wrong)) << wrong;
}

TEST(Jws, the_key_of_rfc_7515_is_written_and_its_signature_verifies) {
  const tls::PrivateKey key = example_key();
  EXPECT_EQ(jwk(key),
            "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" + std::string(kX) + "\",\"y\":\"" + std::string(kY) + "\"}");
  EXPECT_EQ(thumbprint(key), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
  EXPECT_EQ(key_authorization("token", key), "token.oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
  const std::string input =
      "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp"
      "0cnVlfQ";
  const auto theirs =
      base64url_decode("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
  EXPECT_TRUE(verifies(key, input, *theirs)) << "so the check is right";
  EXPECT_TRUE(verifies(key, input, key.sign_es256(input)));
}

TEST(Jws, hs256_is_that_of_rfc_7515) {
  const auto key =
      base64url_decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
  EXPECT_EQ(base64url(tls::hmac_sha256(
                *key,
                "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9"
                "leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ")),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

TEST(Jws, says_who_signs_which_nonce_and_where_it_goes) {
  const tls::PrivateKey key = example_key();
  for (const std::string account : {"", "https://ca.test/account/1"}) {
    const Json signed_ = Json::parse(sign({key, account}, "nonce-1", "https://ca.test/new", "{\"a\":1}"));
    const std::string header_text = signed_["protected"];
    const Json header = Json::parse(*base64url_decode(header_text));
    EXPECT_EQ(header["alg"], "ES256");
    EXPECT_EQ(header["nonce"], "nonce-1");
    EXPECT_EQ(header["url"], "https://ca.test/new");
    EXPECT_EQ(header.contains("jwk"), account.empty());
    EXPECT_EQ(header.value("kid", ""), account);
    const std::string payload = signed_["payload"];
    EXPECT_EQ(base64url_decode(payload), "{\"a\":1}");
    EXPECT_TRUE(verifies(key, header_text + "." + payload, *base64url_decode(signed_["signature"].get<std::string>())));
  }
  EXPECT_EQ(Json::parse(sign({key, "https://ca.test/1"}, "n", "https://ca.test/2", ""))["payload"], "");
}

TEST(Jws, a_binding_is_the_account_s_key_signed_with_the_issuer_s) {
  const tls::PrivateKey key = example_key();
  const Json bound = Json::parse(binding("kid-1", "secret", key, "https://ca.test/new-account"));
  const std::string header = bound["protected"], payload = bound["payload"];
  EXPECT_EQ(Json::parse(*base64url_decode(header)),
            (Json{{"alg", "HS256"}, {"kid", "kid-1"}, {"url", "https://ca.test/new-account"}}));
  EXPECT_EQ(*base64url_decode(payload), jwk(key));
  EXPECT_EQ(bound["signature"], base64url(tls::hmac_sha256("secret", header + "." + payload)));
}

}  // namespace
}  // namespace mesh::acme
