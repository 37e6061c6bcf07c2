// SPDX-License-Identifier: Apache-2.0
// On ordinary folders: a cgroup is one.
#include "cli/cgroup.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace mesh::cli {
namespace {

namespace fs = std::filesystem;

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "mesh-cgroup-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    mount_ = pattern;
    for (const char* path : {"/system.slice/shop.service", "/system.slice/web.service", "/user.slice/web.service"}) {
      fs::create_directories(mount_ + path);
    }
  }
  void TearDown() override { fs::remove_all(mount_); }
  std::string mount_;
};

TEST_F(CgroupTest, is_found_by_path_and_by_its_only_name) {
  for (const std::string name : {"/system.slice/shop.service", "/system.slice/shop.service/", "shop.service"}) {
    const auto cgroup = find_cgroup(mount_, name);
    ASSERT_TRUE(cgroup) << cgroup.error().to_string();
    EXPECT_EQ(cgroup->path, "/system.slice/shop.service");
    EXPECT_EQ(cgroup->folder, mount_ + "/system.slice/shop.service");
    EXPECT_GT(cgroup->id, 0U);
  }
  EXPECT_EQ(find_cgroup(mount_, mount_ + "/system.slice")->path, "/system.slice");
  EXPECT_EQ(find_cgroup(mount_, "/")->folder, mount_);
}

TEST_F(CgroupTest, a_name_of_several_is_refused_with_their_paths) {
  const auto cgroup = find_cgroup(mount_, "web.service");
  ASSERT_FALSE(cgroup);
  EXPECT_EQ(cgroup.error().kind, base::ErrorKind::kConflict);
  EXPECT_NE(cgroup.error().message.find("/user.slice/web.service"), std::string::npos);
  EXPECT_EQ(find_cgroup(mount_, "none.service").error().kind, base::ErrorKind::kNotFound);
  EXPECT_EQ(find_cgroup(mount_, "/none").error().kind, base::ErrorKind::kNotFound);
}

TEST_F(CgroupTest, the_mount_is_read_and_never_assumed) {
  const std::string file = mount_ + "/mounts";
  std::ofstream(file) << "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
  EXPECT_EQ(find_cgroup_mount(file), "/sys/fs/cgroup/unified");
  std::ofstream(file) << "proc /proc proc rw 0 0\n";
  EXPECT_FALSE(find_cgroup_mount(file));
}

}  // namespace
}  // namespace mesh::cli
