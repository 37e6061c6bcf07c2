// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate.hpp"

#include <gtest/gtest.h>

#include "tests/support/certificate.hpp"

namespace mesh::tls {
namespace {

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()) +
         std::chrono::hours(hours);
}

std::string verdict(const std::string& chain, const std::string& key) {
  const auto made = Certificate::parse(chain, key);
  return made ? "taken" : made.error().message;
}

TEST(TlsCertificate, refuses_what_is_no_pair_and_takes_what_has_expired) {
  const auto authority = test::make_authority("root", in_hours(1));
  const auto one = test::make_certificate_for("DNS:one.test", in_hours(1), &authority);
  const auto other = test::make_certificate("other.test", in_hours(1));
  const auto weak = test::make_certificate_for("DNS:w.test", in_hours(1), nullptr, test::KeyKind::kRsa1024);
  EXPECT_EQ(verdict("", one.key), "use the certificate: it is no PEM certificate");
  EXPECT_EQ(verdict(one.key, one.key), "use the certificate: it is no PEM certificate");
  EXPECT_EQ(verdict(one.certificate, ""), "use the key: it is no PEM private key without passphrase");
  EXPECT_EQ(verdict(one.certificate, other.key), "use the key: it is not that of the certificate");
  EXPECT_EQ(verdict(weak.certificate, weak.key), "use the certificate: its key is too weak: RSA 1024");
  const std::string cut = authority.certificate.substr(0, authority.certificate.size() / 2);
  EXPECT_TRUE(verdict(one.certificate + cut, one.key).starts_with("use the certificate's chain: one of its"));
  EXPECT_EQ(verdict(one.certificate + other.certificate, one.key),
            "use the certificate's chain: CN=other.test is not the issuer of CN=meshd test");
  EXPECT_EQ(verdict(one.certificate + authority.certificate, one.key), "taken");
  const auto expired = test::make_certificate("expired.test", in_hours(-1));
  EXPECT_EQ(verdict(expired.certificate, expired.key), "taken");
}

TEST(TlsCertificate, an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase) {
  const auto one = test::make_certificate("one.test", in_hours(1));
  const std::string locked =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
      "-----END ENCRYPTED PRIVATE KEY-----\n";
  EXPECT_EQ(verdict(one.certificate, locked), "use the key: it is no PEM private key without passphrase");
}

TEST(TlsCertificate, its_facts) {
  const auto end = in_hours(12);
  const auto issuer_end = in_hours(1);
  const auto authority = test::make_authority("root", issuer_end);
  const auto pem = test::make_certificate_for("DNS:Shop.Test,DNS:*.shop.test,IP:10.0.0.1,IP:fd00::1,URI:spiffe://x/y",
                                              end, &authority, test::KeyKind::kRsa2048);
  const auto made = Certificate::parse(pem.certificate + authority.certificate, pem.key);
  ASSERT_TRUE(made) << made.error().to_string();
  const CertificateFacts& facts = (*made)->facts();
  EXPECT_EQ(facts.subject, "CN=meshd test");
  EXPECT_EQ(facts.issuer, "CN=root");
  EXPECT_EQ(facts.key, "RSA 2048");
  EXPECT_TRUE((*made)->is_rsa());
  EXPECT_EQ(facts.dns_names, (std::vector<std::string>{"shop.test", "*.shop.test"}));
  EXPECT_EQ(facts.addresses, (std::vector<std::string>{"10.0.0.1", "fd00::1"}));
  EXPECT_EQ(facts.uris, (std::vector<std::string>{"spiffe://x/y"}));
  EXPECT_EQ(facts.not_after, end);
  EXPECT_EQ(facts.chain_ends, issuer_end) << "its issuer ends first";
  EXPECT_EQ(facts.fingerprint.size(), 64u);
}

TEST(TlsAuthorities, are_certificates_and_the_lists_of_those) {
  const auto root = test::make_authority("root", in_hours(12));
  const auto other = test::make_authority("other", in_hours(12));
  const auto impostor = test::make_authority("root", in_hours(12));
  const auto message = [](const std::string& certificates, const std::string& lists) {
    const auto made = Authorities::parse(certificates, lists);
    return made ? std::string("taken") : made.error().message;
  };
  const std::string list = test::make_revocation_list(root, {}, in_hours(2));
  const auto end = in_hours(1);
  const std::string other_list = test::make_revocation_list(other, {}, end);
  EXPECT_EQ(message(root.certificate, ""), "taken");
  EXPECT_EQ(message(root.certificate, list), "taken");
  EXPECT_EQ(message("", ""), "use the authorities: there is no PEM certificate");
  EXPECT_EQ(message(root.certificate, "nothing"), "use the revocation lists: there is no PEM list");
  EXPECT_TRUE(message(root.certificate, list + list.substr(0, list.size() / 2)).contains("one is damaged"));
  EXPECT_EQ(message(root.certificate, other_list),
            "use the revocation list of CN=other: it is none of the authorities");
  EXPECT_EQ(message(impostor.certificate, list), "use the revocation list of CN=root: its signature is wrong");
  const auto both = Authorities::parse(root.certificate + other.certificate, list + other_list);
  ASSERT_TRUE(both) << both.error().to_string();
  EXPECT_EQ((*both)->facts().size(), 2u);
  EXPECT_EQ((*both)->lists_end(), end);
}

}  // namespace
}  // namespace mesh::tls
