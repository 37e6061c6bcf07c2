// SPDX-License-Identifier: Apache-2.0
#include "app/relay_identities.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "tests/support/certificate.hpp"

namespace mesh::app {
namespace {

using Look = relay::CertificateStore::Look;

const std::string kId = "spiffe://a.test/shop";

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::system_clock::now() + std::chrono::hours(hours);
}

class RelayIdentitiesTest : public testing::Test {
 protected:
  RelayIdentitiesTest() {
    std::filesystem::create_directories(path("shop"));
    write("ca.crt", authority_.certificate);
    revoke({});
  }
  ~RelayIdentitiesTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::trunc) << text;
  }
  void issue(const std::string& name, const std::string& id = kId) const {
    const auto svid = test::make_svid(id, in_hours(12), authority_);
    write(name + ".crt", svid.certificate);
    write(name + ".key", svid.key);
  }
  void revoke(const std::vector<test::CertificatePem>& revoked) const {
    write("ca.crl", test::make_revocation_list(authority_, revoked, in_hours(12)));
  }
  [[nodiscard]] relay::Settings settings() const {
    relay::Settings made;
    made.identities = {{.id = kId, .user = 0, .identity = {.folder = path("shop")}}};
    made.mesh.trust = {{.trust_domain = "a.test", .bundle = path("ca.crt"), .crl = path("ca.crl")}};
    return made;
  }
  /// Why what the files hold now is not in use.
  std::string look() {
    identities_.look(Look::kAtOnce, libraries_);
    const auto& refused = identities_.all().at(0).refused;
    return refused ? refused->message : "";
  }
  /// As whom a client is let in by the server, or why there is none.
  std::string speak() {
    const auto context = identities_.of_worker(0)->contexts.at(0);
    if (!context) return "no context";
    tls::ServerOptions options{
        .tls12 = false, .alpn = {std::string(relay::kMeshProtocol)}, .verify = tls::ClientVerify::kRequire};
    options.certificates = {*tls::Certificate::parse(node_.certificate, node_.key)};
    options.trust = std::make_shared<const tls::Trust>(
        tls::Trust::Bundles{{"a.test", *tls::Authorities::parse(authority_.certificate, "")}});
    tls::ServerSession server(*tls::ServerContext::make(options, libraries_[0]));
    tls::ClientSession client(context, "node");
    const auto carry = [](tls::Session& from, tls::Session& to) {
      std::string plain;
      to.feed(from.output(), plain);
      from.sent(from.output().size());
    };
    for (int round = 0; round < 4; ++round) {
      carry(client, server);
      carry(server, client);
    }
    if (client.state() != tls::Session::State::kOpen) return client.error();
    return server.peer_id() ? server.peer_id()->to_string() : server.error();
  }

  const std::string folder_ =
      std::filesystem::temp_directory_path() / ("mesh-identities-" + std::to_string(::getpid()));
  const test::CertificatePem authority_ = test::make_authority("a", in_hours(20));
  const test::CertificatePem node_ = test::make_svid("spiffe://a.test/node", in_hours(12), authority_);
  const std::vector<std::shared_ptr<const tls::Library>> libraries_{tls::Library::shared()};
  RelayIdentities identities_;
};

TEST_F(RelayIdentitiesTest, a_folder_has_one_pair_and_another_number_leaves_the_certificate_before) {
  const std::string none = "use the identity: there is no certificate";
  identities_.set(settings());
  EXPECT_EQ(look(), none);
  EXPECT_EQ(speak(), "no context");
  issue("shop/tls");
  EXPECT_EQ(look(), "");
  EXPECT_EQ(speak(), kId);
  issue("shop/more");
  EXPECT_EQ(look(), "use the identity: there is more than one certificate: " + path("shop/more.crt") + " and " +
                        path("shop/tls.crt"));
  EXPECT_EQ(speak(), kId);
  for (const char* name : {"tls", "more"}) std::filesystem::remove(path("shop/" + std::string(name) + ".crt"));
  EXPECT_EQ(look(), none);
  EXPECT_EQ(speak(), kId);
  issue("shop/next");
  EXPECT_EQ(look(), "");
  EXPECT_EQ(speak(), kId);
}

TEST_F(RelayIdentitiesTest, who_is_revoked_is_not_believed_whatever_the_certificates_files_are) {
  const std::string cart = "use the certificate of spiffe://a.test/cart for " + kId;
  const std::vector<std::pair<std::string, std::function<void()>>> broken = {
      {"use the identity: there is no certificate", [&] { std::filesystem::remove(path("shop/tls.crt")); }},
      {"use the key: it is not that of", [&] { write("shop/tls.key", authority_.key); }},
      {cart, [&] { issue("shop/tls", "spiffe://a.test/cart"); }},
  };
  for (const auto& [error, break_it] : broken) {
    revoke({});
    issue("shop/tls");
    identities_.set(settings());
    EXPECT_EQ(look(), "");
    EXPECT_EQ(speak(), kId);
    break_it();
    EXPECT_TRUE(look().starts_with(error)) << identities_.all()[0].refused->to_string();
    EXPECT_EQ(speak(), kId) << "the certificate before";
    revoke({node_});
    EXPECT_TRUE(look().starts_with(error));
    EXPECT_EQ(speak(), "certificate revoked") << error;
  }
}

TEST_F(RelayIdentitiesTest, without_anybody_to_believe_an_identity_is_of_no_use) {
  relay::Settings alone = settings();
  alone.mesh.trust.clear();
  issue("shop/tls");
  identities_.set(alone);
  EXPECT_EQ(look(), "use the identity " + kId + ": it has nobody to believe");
  EXPECT_EQ(speak(), "no context");
  identities_.set(settings());
  write("ca.crt", "nothing");
  EXPECT_NE(look(), "");
  EXPECT_EQ(speak(), "no context");
}

TEST_F(RelayIdentitiesTest, those_that_stay_keep_what_they_have_in_another_order_too) {
  relay::Settings made = settings();
  issue("shop/tls");
  identities_.set(made);
  look();
  const auto context = identities_.of_worker(0)->contexts.at(0);
  made.identities.insert(made.identities.begin(), {.id = "spiffe://a.test/x", .user = 1, .identity = {.folder = "/x"}});
  identities_.set(made);
  EXPECT_EQ(identities_.of_worker(0)->contexts, (decltype(relay::MeshIdentities::contexts){nullptr, context}));
  EXPECT_EQ(identities_.of_worker(0)->rules[1].uid, 0U);
}

}  // namespace
}  // namespace mesh::app
