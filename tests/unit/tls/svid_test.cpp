// SPDX-License-Identifier: Apache-2.0
#include "tls/svid.hpp"

#include <gtest/gtest.h>

#include "tests/support/certificate.hpp"
#include "tests/support/tls_client.hpp"
#include "tls/openssl.hpp"
#include "tls/server.hpp"

namespace mesh::tls {
namespace {

using test::CertificateExtension;
using test::CertificatePem;

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()) +
         std::chrono::hours(hours);
}

X509Ptr read(const CertificatePem& pem) {
  const BioPtr text = read_only_bio(pem.certificate);
  return X509Ptr(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
}

const CertificateExtension kName{"subjectAltName", "URI:spiffe://a.test/shop"};
const CertificateExtension kUsage{"keyUsage", "critical,digitalSignature"};

std::string_view fault_of(const std::vector<CertificateExtension>& extensions) {
  return to_string(check_svid(read(test::make_leaf(extensions, in_hours(1), nullptr)).get()).fault);
}

TEST(Svid, says_which_workload_it_is_of) {
  const SvidCheck check = check_svid(read(test::make_leaf({kName, kUsage}, in_hours(1), nullptr)).get());
  EXPECT_EQ(to_string(check.fault), "");
  EXPECT_EQ(check.id.to_string(), "spiffe://a.test/shop");
  EXPECT_EQ(fault_of({{"subjectAltName", "URI:spiffe://a.test/shop,DNS:shop.a.test"}, kUsage}), "")
      << "names of hosts beside it are allowed";
  EXPECT_EQ(fault_of({kName, {"keyUsage", "critical,digitalSignature,keyAgreement"}}), "");
}

TEST(Svid, each_rule_has_a_name) {
  EXPECT_EQ(fault_of({kUsage}), "certificate has no SPIFFE ID");
  EXPECT_EQ(fault_of({{"subjectAltName", "DNS:shop.a.test"}, kUsage}), "certificate has no SPIFFE ID");
  EXPECT_EQ(fault_of({{"subjectAltName", "URI:spiffe://a.test/shop,URI:spiffe://a.test/cart"}, kUsage}),
            "certificate has several URI names");
  EXPECT_EQ(fault_of({{"subjectAltName", "URI:spiffe://a.test/shop,URI:https://a.test"}, kUsage}),
            "certificate has several URI names");
  EXPECT_EQ(fault_of({{"subjectAltName", "URI:https://a.test/shop"}, kUsage}),
            "certificate's URI name is no SPIFFE ID");
  EXPECT_EQ(fault_of({{"subjectAltName", "URI:spiffe://a.test"}, kUsage}),
            "certificate names a trust domain and no workload");
  EXPECT_EQ(fault_of({kName, kUsage, {"basicConstraints", "critical,CA:TRUE"}}), "certificate is an authority's");
  EXPECT_EQ(fault_of({kName}), "certificate's key usage is not digital signature");
  EXPECT_EQ(fault_of({kName, {"keyUsage", "critical,keyEncipherment"}}),
            "certificate's key usage is not digital signature");
  for (const char* other : {"keyCertSign", "cRLSign"}) {
    EXPECT_EQ(fault_of({kName, {"keyUsage", std::string("critical,digitalSignature,") + other}}),
              "certificate's key usage is to sign certificates");
  }
  for (const char* half : {"serverAuth", "clientAuth", "codeSigning"}) {
    EXPECT_EQ(fault_of({kName, kUsage, {"extendedKeyUsage", half}}),
              "certificate is not for both server and client authentication");
  }
}

class SvidTrust : public testing::Test {
 protected:
  std::shared_ptr<const Trust> trust(const std::string& a, const std::string& revoked = "") const {
    return std::make_shared<const Trust>(Trust::Bundles{{"a.test", *Authorities::parse(a, revoked)},
                                                        {"b.test", *Authorities::parse(b_.certificate, "")}});
  }
  TrustStores::Verdict verdict(const CertificatePem& shown, const std::shared_ptr<const Trust>& trusted) const {
    return TrustStores(trusted, nullptr).verify(read(shown).get(), nullptr, PeerSide::kServer);
  }

  const CertificatePem a_ = test::make_authority("a", in_hours(20));
  const CertificatePem b_ = test::make_authority("b", in_hours(20));
  const CertificatePem shop_ = test::make_svid("spiffe://a.test/shop", in_hours(12), a_);
};

TEST_F(SvidTrust, believes_an_authority_for_its_own_trust_domain_only) {
  const auto good = verdict(shop_, trust(a_.certificate));
  EXPECT_EQ(good.refusal, "");
  EXPECT_EQ(good.id.to_string(), "spiffe://a.test/shop");
  EXPECT_EQ(verdict(test::make_svid("spiffe://b.test/shop", in_hours(12), a_), trust(a_.certificate)).refusal,
            "unknown issuer")
      << "a's authority speaks for b";
  EXPECT_EQ(verdict(test::make_svid("spiffe://c.test/shop", in_hours(12), a_), trust(a_.certificate)).refusal,
            "unknown trust domain");
}

TEST_F(SvidTrust, refuses_what_is_expired_revoked_or_by_itself) {
  EXPECT_EQ(verdict(test::make_svid("spiffe://a.test/shop", in_hours(-1), a_), trust(a_.certificate)).refusal,
            "certificate expired");
  EXPECT_EQ(verdict(test::make_svid("spiffe://a.test/shop", in_hours(48), a_), trust(a_.certificate)).refusal,
            "certificate not yet valid");
  EXPECT_EQ(verdict(test::make_leaf({kName, kUsage}, in_hours(1), nullptr), trust(a_.certificate)).refusal,
            "self-signed certificate");
  const CertificatePem other = test::make_svid("spiffe://a.test/cart", in_hours(12), a_);
  const auto listed = trust(a_.certificate, test::make_revocation_list(a_, {other}, in_hours(1)));
  EXPECT_EQ(verdict(other, listed).refusal, "certificate revoked");
  EXPECT_EQ(verdict(shop_, listed).refusal, "");
  EXPECT_LE(verdict(shop_, listed).until, in_hours(1));
  EXPECT_EQ(verdict(shop_, trust(a_.certificate, test::make_revocation_list(a_, {}, in_hours(-1)))).refusal,
            "revocation list out of date");
}

TEST_F(SvidTrust, of_two_authorities_in_a_bundle_both_are_believed) {
  const CertificatePem next = test::make_authority("a next", in_hours(20));
  const auto both = trust(a_.certificate + next.certificate);
  EXPECT_EQ(verdict(shop_, both).refusal, "");
  EXPECT_EQ(verdict(test::make_svid("spiffe://a.test/shop", in_hours(12), next), both).refusal, "");
  EXPECT_EQ(verdict(shop_, trust(next.certificate)).refusal, "unknown issuer");
  EXPECT_NE(both->mark(), trust(a_.certificate)->mark());
}

TEST_F(SvidTrust, a_server_knows_its_client_and_notices_what_is_revoked_later) {
  const CertificatePem own = test::make_svid("spiffe://a.test/node", in_hours(12), a_);
  const auto server = [&](const std::shared_ptr<const Trust>& trusted) {
    return *ServerContext::make({.certificates = {*Certificate::parse(own.certificate, own.key)},
                                 .tls12 = false,
                                 .verify = ClientVerify::kRequire,
                                 .trust = trusted},
                                Library::shared());
  };
  const auto context = server(trust(a_.certificate));
  ServerSession session(context);
  test::TlsClient client({.server_name = "", .certificate = shop_});
  talk(client, session);
  ASSERT_EQ(session.state(), Session::State::kOpen) << session.error();
  EXPECT_EQ(session.peer_id()->to_string(), "spiffe://a.test/shop");
  EXPECT_EQ(context->refuses(session), "");
  EXPECT_EQ(server(trust(a_.certificate, test::make_revocation_list(a_, {shop_}, in_hours(1))))->refuses(session),
            "certificate revoked");
  EXPECT_EQ(server(trust(b_.certificate))->refuses(session), "unknown issuer");

  const auto error_for = [&](const CertificatePem& shown) {
    ServerSession refusing(context);
    test::TlsClient refused({.server_name = "", .certificate = shown});
    talk(refused, refusing);
    EXPECT_EQ(refusing.failure(), Failure::kCertificate);
    return refusing.error();
  };
  EXPECT_EQ(error_for(test::make_svid("spiffe://c.test/shop", in_hours(12), a_)), "unknown trust domain");
  EXPECT_EQ(error_for(test::make_svid("spiffe://a.test/shop", in_hours(-1), a_)), "certificate expired");
  EXPECT_EQ(error_for(test::make_certificate_for("DNS:shop.a.test", in_hours(12), &a_)),
            "certificate has no SPIFFE ID");
}

}  // namespace
}  // namespace mesh::tls
