// SPDX-License-Identifier: Apache-2.0
#include "app/ca_command.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/fd.hpp"
#include "tls/svid.hpp"

namespace mesh::app {
namespace {

class CaCommand : public testing::Test {
 protected:
  CaCommand() { std::filesystem::create_directory(folder_); }
  ~CaCommand() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string text(const std::string& name) const { return base::read_file(path(name), 1 << 20).value_or(""); }
  unsigned mode(const std::string& name) const {
    struct stat status{};
    return ::stat(path(name).c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
  }
  AuthorityRequest request() const {
    return {.folder = path("ca"), .trust_domain = "lab.test", .id = "spiffe://lab.test/shop", .out = path("shop")};
  }
  std::shared_ptr<const tls::Certificate> issued() const {
    return *tls::Certificate::parse(text("shop/tls.crt"), text("shop/tls.key"));
  }
  /// Whether a relay that has this bundle believes what was issued last.
  bool believed_by(const std::string& bundle) const {
    const auto certificate = issued();
    const auto authorities = *tls::Authorities::parse(bundle, "");
    const auto& facts = authorities->facts();
    return std::ranges::any_of(facts, [&](const auto& one) { return one.subject == certificate->facts().issuer; });
  }

  const std::string folder_ = std::filesystem::temp_directory_path() / ("mesh-ca-" + std::to_string(::getpid()));
  const base::WallTime now_ = base::wall_now();
};

TEST_F(CaCommand, makes_an_authority_once_and_its_key_is_for_its_owner) {
  const auto made = init_authority(request(), now_);
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(mode("ca/ca.key"), 0600U);
  EXPECT_EQ(mode("ca"), 0700U);
  EXPECT_EQ(text("ca/bundle.crt"), text("ca/ca.crt"));
  const auto again = init_authority(request(), now_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, base::ErrorKind::kConflict);
}

TEST_F(CaCommand, issues_what_the_specification_wants_in_the_layout_of_cert_manager) {
  ASSERT_TRUE(init_authority(request(), now_));
  const auto made = issue_certificate(request(), now_);
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(mode("shop/tls.key"), 0600U);
  EXPECT_EQ(text("shop/ca.crt"), text("ca/bundle.crt"));
  EXPECT_EQ(tls::svid_of(*issued())->to_string(), "spiffe://lab.test/shop");
  EXPECT_EQ(issued()->facts().not_after, std::chrono::floor<std::chrono::seconds>(now_ + kIssuedHours));
  AuthorityRequest other = request();
  other.id = "spiffe://other.test/shop";
  EXPECT_EQ(issue_certificate(other, now_).error().message,
            "issue spiffe://other.test/shop: the authority is that of lab.test");
  other.id = "spiffe://lab.test";
  EXPECT_EQ(issue_certificate(other, now_).error().message, "issue spiffe://lab.test: it names no workload");
  EXPECT_FALSE(issue_certificate(request(), now_ + kAuthorityDays)) << "the authority has expired";
}

TEST_F(CaCommand, while_it_rotates_old_and_new_are_believed) {
  ASSERT_TRUE(init_authority(request(), now_));
  ASSERT_TRUE(issue_certificate(request(), now_));
  const std::string old = text("ca/ca.crt");
  const std::string old_key = text("ca/ca.key");
  ASSERT_TRUE(rotate_authority(request(), now_));
  EXPECT_NE(text("ca/ca.key"), old_key);
  EXPECT_EQ(mode("ca/ca.key"), 0600U);
  const std::string both = text("ca/bundle.crt");
  EXPECT_TRUE(believed_by(both));
  ASSERT_TRUE(issue_certificate(request(), now_));
  EXPECT_TRUE(believed_by(both));
  EXPECT_FALSE(believed_by(old));
  AuthorityRequest finish = request();
  finish.finish = true;
  ASSERT_TRUE(rotate_authority(finish, now_));
  EXPECT_EQ(text("ca/bundle.crt"), text("ca/ca.crt"));
}

}  // namespace
}  // namespace mesh::app
