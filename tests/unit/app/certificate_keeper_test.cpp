// SPDX-License-Identifier: Apache-2.0
#include "app/certificate_keeper.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/certificate.hpp"

namespace mesh::app {
namespace {

namespace fs = std::filesystem;

class CertificateKeeperTest : public testing::Test {
 protected:
  CertificateKeeperTest() { fs::create_directories(folder_); }
  ~CertificateKeeperTest() override { fs::remove_all(folder_); }

  void write(const test::CertificatePem& pem) {
    std::ofstream(files_.certificate) << pem.certificate;
    std::ofstream(files_.key) << pem.key;
  }

  const fs::path folder_ = fs::temp_directory_path() / ("mesh-certificate-" + std::to_string(::getpid()));
  const CertificateFiles files_{folder_ / "cert.pem", folder_ / "key.pem"};
  const std::chrono::system_clock::time_point end_ =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()) + std::chrono::hours(9);
  const test::CertificatePem old_ = test::make_certificate("old", end_);
  const test::CertificatePem new_ = test::make_certificate("new", end_ + std::chrono::hours(1));
};

TEST_F(CertificateKeeperTest, a_start_without_a_good_pair_is_refused_with_the_files) {
  const auto missing = CertificateKeeper::open(files_);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find(files_.certificate), std::string::npos) << missing.error().message;
  write({old_.certificate, new_.key});
  const auto unequal = CertificateKeeper::open(files_);
  ASSERT_FALSE(unequal);
  EXPECT_NE(unequal.error().message.find(files_.key), std::string::npos) << unequal.error().message;
}

TEST_F(CertificateKeeperTest, a_new_pair_is_taken_once_it_stands_still) {
  write(old_);
  const auto keeper = CertificateKeeper::open(files_);
  ASSERT_TRUE(keeper) << keeper.error().to_string();
  EXPECT_EQ((*keeper)->context()->expires(), end_);
  write({new_.certificate, old_.key});  // between the two files' replacement
  (*keeper)->look();
  write(new_);
  (*keeper)->look();
  EXPECT_FALSE((*keeper)->error()) << "nobody is alarmed by a replacement under way";
  EXPECT_EQ((*keeper)->context()->expires(), end_);
  (*keeper)->look();
  EXPECT_EQ((*keeper)->context()->expires(), end_ + std::chrono::hours(1));
  EXPECT_FALSE((*keeper)->error());
}

TEST_F(CertificateKeeperTest, a_bad_pair_leaves_the_old_one_in_use_and_says_so_until_it_is_good) {
  write(old_);
  const auto keeper = CertificateKeeper::open(files_);
  ASSERT_TRUE(keeper) << keeper.error().to_string();
  const auto look_twice = [&] {
    (*keeper)->look();
    (*keeper)->look();
  };
  write({new_.certificate, old_.key});
  look_twice();
  EXPECT_EQ((*keeper)->context()->expires(), end_);
  ASSERT_TRUE((*keeper)->error());
  EXPECT_NE((*keeper)->error()->message.find("not that of the certificate"), std::string::npos);
  fs::remove(files_.key);
  look_twice();
  EXPECT_NE((*keeper)->error()->message.find(files_.key), std::string::npos) << (*keeper)->error()->message;
  write(old_);
  look_twice();
  EXPECT_FALSE((*keeper)->error());
}

}  // namespace
}  // namespace mesh::app
