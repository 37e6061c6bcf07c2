// SPDX-License-Identifier: Apache-2.0
#include "relay/certificate_store.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/certificate.hpp"

namespace mesh::relay {
namespace {

using Look = CertificateStore::Look;

std::chrono::system_clock::time_point in_hours(int hours) {
  return std::chrono::system_clock::now() + std::chrono::hours(hours);
}

test::CertificatePem pem(const std::string& name) { return test::make_certificate(name, in_hours(12)); }

class CertificateStoreTest : public testing::Test {
 protected:
  CertificateStoreTest() { std::filesystem::create_directories(folder_); }
  ~CertificateStoreTest() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::trunc) << text;
  }
  void write(const std::string& name, const test::CertificatePem& pair) const {
    write(name + ".crt", pair.certificate);
    write(name + ".key", pair.key);
  }
  [[nodiscard]] CertificatePair pair(const std::string& name) const {
    return {.certificate = path(name + ".crt"), .key = path(name + ".key")};
  }
  /// The names that can be served.
  static std::string names(const CertificateStore& store) {
    const auto options = store.options();
    if (!options) return "error: " + options.error().message;
    std::string names;
    for (const auto& certificate : options->certificates) names += certificate->facts().dns_names.front() + " ";
    return names;
  }
  /// As a kubelet does it.
  void mount(const std::string& name, const test::CertificatePem& content) const {
    write("secret/." + name + "/tls", content);
    std::filesystem::create_symlink("." + name, path("secret/..new"));
    std::filesystem::rename(path("secret/..new"), path("secret/..data"));
  }

  const std::string folder_ =
      std::filesystem::temp_directory_path() / ("mesh-certificates-" + std::to_string(::getpid()));
};

TEST_F(CertificateStoreTest, a_changed_pair_is_taken_when_it_has_settled_and_a_bad_one_leaves_the_one_before) {
  write("a", pem("a.test"));
  CertificateStore store({.certificates = {pair("a")}});
  EXPECT_TRUE(store.look());
  EXPECT_EQ(names(store), "a.test ");
  EXPECT_FALSE(store.look());

  const auto next = pem("b.test");
  write("a.crt", next.certificate);
  EXPECT_FALSE(store.look()) << "the key may come in a moment";
  write("a.key", next.key);
  EXPECT_FALSE(store.look());
  EXPECT_TRUE(store.look());
  EXPECT_EQ(names(store), "b.test ");
  EXPECT_EQ(store.certificates().front().refused, std::nullopt);

  write("a.key", pem("c.test").key);
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_EQ(names(store), "b.test ");
  ASSERT_TRUE(store.certificates().front().refused);
  EXPECT_TRUE(store.certificates().front().refused->message.starts_with("use the key: it is not that of"));
  EXPECT_TRUE(store.certificates().front().refused->message.contains(path("a.key")));
  EXPECT_FALSE(store.look(Look::kAtOnce)) << "it is said once";

  std::filesystem::remove(path("a.crt"));
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_EQ(names(store), "b.test ");
  EXPECT_EQ(store.certificates().front().refused->kind, base::ErrorKind::kNotFound);
}

TEST_F(CertificateStoreTest, a_folder_has_pairs_that_come_and_go) {
  write("many/b", pem("b.test"));
  write("many/a", pem("a.test"));
  write("many/notes.txt", "nothing");
  write("first", pem("first.test"));
  CertificateStore store({.certificates = {pair("first"), {.folder = path("many")}}});
  store.look();
  EXPECT_EQ(names(store), "first.test a.test b.test ");
  write("many/c", pem("c.test"));
  write("many/b.crt", "damaged");
  store.look(Look::kAtOnce);
  EXPECT_EQ(names(store), "first.test a.test b.test c.test ");
  EXPECT_TRUE(store.certificates()[2].refused.has_value());
  std::filesystem::remove(path("many/a.crt"));
  store.look(Look::kAtOnce);
  EXPECT_EQ(names(store), "first.test b.test c.test ");
  std::filesystem::rename(path("many"), path("away"));
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_EQ(names(store), "first.test b.test c.test ") << "a folder that is away takes nothing away";
  EXPECT_TRUE(store.refused().has_value());
  write("away/b", pem("b.test"));
  std::filesystem::rename(path("away"), path("many"));
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_EQ(store.refused(), std::nullopt);
}

TEST_F(CertificateStoreTest, a_mounted_secret_is_swapped_by_its_link) {
  mount("one", pem("one.test"));
  std::filesystem::create_symlink("..data/tls.crt", path("secret/tls.crt"));
  std::filesystem::create_symlink("..data/tls.key", path("secret/tls.key"));
  CertificateStore store({.certificates = {{.folder = path("secret")}}});
  store.look();
  EXPECT_EQ(names(store), "one.test ");
  mount("two", pem("two.test"));
  EXPECT_FALSE(store.look());
  EXPECT_TRUE(store.look());
  EXPECT_EQ(names(store), "two.test ");
}

TEST_F(CertificateStoreTest, without_a_certificate_or_authorities_that_are_needed_nobody_can_listen) {
  CertificateStore missing({.certificates = {pair("none")}});
  missing.look();
  EXPECT_TRUE(names(missing).starts_with("error: open " + path("none.crt")));
  std::filesystem::create_directories(path("empty"));
  CertificateStore empty({.certificates = {{.folder = path("empty")}}});
  empty.look();
  EXPECT_EQ(names(empty), "error: use the listener's certificates: there is none");

  write("a", pem("a.test"));
  write("ca.pem", "nothing");
  CertificateStore verifying(
      {.certificates = {pair("a")}, .client = {.verify = tls::ClientVerify::kRequire, .ca = path("ca.pem")}});
  verifying.look();
  EXPECT_TRUE(names(verifying).starts_with("error: use the authorities: there is no PEM certificate"));
  const auto authority = test::make_authority("root", in_hours(12));
  write("ca.pem", authority.certificate);
  verifying.look(Look::kAtOnce);
  EXPECT_EQ(names(verifying), "a.test ");
  write("ca.pem", "nothing");
  verifying.look(Look::kAtOnce);
  EXPECT_EQ(names(verifying), "a.test ") << "those before stay";
  EXPECT_TRUE(verifying.refused().has_value());
}

TEST_F(CertificateStoreTest, other_settings_keep_what_is_named_still) {
  write("a", pem("a.test"));
  write("b", pem("b.test"));
  CertificateStore store({.certificates = {pair("a")}});
  store.look();
  write("a.key", "damaged");
  store.change({.certificates = {pair("b"), pair("a")}, .min_version = "1.3"});
  EXPECT_TRUE(store.look());
  EXPECT_EQ(names(store), "b.test a.test ");
  EXPECT_FALSE(store.options()->tls12);
}

TEST_F(CertificateStoreTest, identities_are_svids_and_a_bundle_that_is_no_use_leaves_the_one_before) {
  const auto authority = test::make_authority("a", in_hours(20));
  write("a", pem("a.test"));
  write("ca.crt", authority.certificate);
  CertificateStore store(
      {.certificates = {pair("a")}, .trust = {{.trust_domain = "a.test", .bundle = path("ca.crt")}}});
  EXPECT_TRUE(store.look());
  EXPECT_TRUE(store.options().error().message.starts_with(
      "use the certificate as an identity: certificate has no SPIFFE ID (" + path("a.crt")));
  write("a", test::make_svid("spiffe://a.test/node", in_hours(12), authority));
  EXPECT_TRUE(store.look(Look::kAtOnce));
  const auto options = store.options();
  ASSERT_TRUE(options) << options.error().to_string();
  EXPECT_EQ(options->verify, tls::ClientVerify::kRequire);
  ASSERT_TRUE(options->trust);
  const std::string mark = options->trust->mark();
  write("ca.crt", "no certificate");
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_TRUE(store.refused());
  EXPECT_EQ(store.trust()->mark(), mark);
  write("ca.crt", authority.certificate + test::make_authority("a next", in_hours(20)).certificate);
  EXPECT_TRUE(store.look(Look::kAtOnce));
  EXPECT_EQ(store.refused(), std::nullopt);
  EXPECT_NE(store.trust()->mark(), mark);
}

TEST_F(CertificateStoreTest, a_client_shows_the_one_pair_of_its_folder) {
  std::filesystem::create_directories(path("id"));
  CertificateStore store({.certificates = {{.folder = path("id")}}});
  const auto shown = [&]() -> std::string {
    store.look(Look::kAtOnce);
    const auto options = store.client_options();
    return options ? options->certificate->facts().dns_names.front() : "error: " + options.error().message;
  };
  EXPECT_EQ(shown(), "error: use the identity: there is no certificate");
  write("id/a", pem("a.test"));
  EXPECT_EQ(shown(), "a.test");
  write("id/b", pem("b.test"));
  EXPECT_EQ(shown(), "error: use the identity: there is more than one certificate: " + path("id/a.crt") + " and " +
                         path("id/b.crt"));
  std::filesystem::remove(path("id/a.crt"));
  EXPECT_EQ(shown(), "b.test");
  std::filesystem::remove(path("id/b.crt"));
  EXPECT_EQ(shown(), "error: use the identity: there is no certificate");
  std::filesystem::remove_all(path("id"));
  EXPECT_TRUE(shown().starts_with("error: list the certificates of " + path("id"))) << shown();
}

}  // namespace
}  // namespace mesh::relay
