// SPDX-License-Identifier: Apache-2.0
#include "acme/folder.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "tests/support/certificate.hpp"

namespace mesh::acme {
namespace {

class AcmeFolder : public testing::Test {
 protected:
  ~AcmeFolder() override { std::filesystem::remove_all(path_); }
  static std::string made() {
    std::string path = std::filesystem::temp_directory_path() / "mesh-acme-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    return path;
  }
  [[nodiscard]] unsigned mode(const std::string& name) const {
    struct stat status{};
    return ::stat((path_ + "/" + name).c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
  }
  static test::CertificatePem pair() {
    return test::make_certificate("shop.test", std::chrono::system_clock::now() + std::chrono::hours(1));
  }
  const std::string path_ = made();
};

TEST_F(AcmeFolder, keeps_pairs_that_change_at_one_instant_for_their_owner_only) {
  auto folder = Folder::open(path_);
  ASSERT_TRUE(folder) << folder.error().to_string();
  EXPECT_FALSE(folder->read("shop"));
  std::set<std::string> places;
  for (int i = 0; i < 3; ++i) {
    const test::CertificatePem pem = pair();
    ASSERT_TRUE(folder->write("shop", "https://ca/dir", pem.key, pem.certificate));
    const auto stored = folder->read("shop");
    ASSERT_TRUE(stored);
    EXPECT_EQ(stored->certificate->key_pem(), pem.key);
    EXPECT_EQ(stored->directory, "https://ca/dir");
    EXPECT_EQ(mode("shop.key"), 0600U);
    EXPECT_EQ(mode("shop.crt"), 0600U);
    places.insert(std::filesystem::canonical(path_ + "/shop.key").parent_path());
    EXPECT_EQ(std::filesystem::canonical(path_ + "/shop.crt").parent_path(),
              std::filesystem::canonical(path_ + "/shop.key").parent_path());
  }
  EXPECT_EQ(places.size(), 2U) << "what is in force is never written to";
}

TEST_F(AcmeFolder, has_one_account_and_one_process_that_fetches) {
  auto folder = Folder::open(path_);
  ASSERT_TRUE(folder);
  const auto other = Folder::open(path_);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, base::ErrorKind::kConflict);
  const auto key = folder->account_key();
  ASSERT_TRUE(key);
  EXPECT_EQ(folder->account_key()->point(), key->point());
  EXPECT_EQ(mode(".account.key"), 0600U);
  EXPECT_FALSE(folder->account());
  const Account account{"https://ca/dir", "https://ca/account/1", {"mailto:ops@a.test"}};
  ASSERT_TRUE(folder->write_account(account));
  EXPECT_EQ(folder->account(), account);
  EXPECT_EQ(mode(".account.json"), 0600U);
  std::ofstream(path_ + "/.account.json") << "[1";
  EXPECT_FALSE(folder->account());
  std::ofstream(path_ + "/.account.key") << "damaged";
  EXPECT_FALSE(folder->account_key()) << "it is not replaced: the issuer knows the one that was there";
}

}  // namespace
}  // namespace mesh::acme
