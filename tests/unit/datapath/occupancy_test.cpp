// SPDX-License-Identifier: Apache-2.0
#include "datapath/occupancy.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace mesh::datapath {
namespace {

namespace fs = std::filesystem;

/// Folders with the files that the kernel shows in a cgroup.
class Occupancy : public testing::Test {
 protected:
  ~Occupancy() override { fs::remove_all(root_); }

  void cgroup(const std::string& path, const std::string& threads, bool populated) {
    fs::create_directories(root_ / path);
    std::ofstream(root_ / path / "cgroup.threads") << threads;
    std::ofstream(root_ / path / "cgroup.events") << "populated " << populated << "\nfrozen 0\n";
  }
  std::optional<bool> look(const std::string& path, const std::string& own = "") {
    return runs_anything((root_ / path).string(), own.empty() ? own : (root_ / own).string());
  }

  const fs::path root_ = fs::temp_directory_path() / ("mesh-occupancy-" + std::to_string(::getpid()));
};

TEST_F(Occupancy, a_process_counts_where_it_is_and_in_every_cgroup_above) {
  cgroup("shop", "", true);
  cgroup("shop/web", "", true);
  cgroup("shop/web/worker", "17\n18\n", true);
  cgroup("shop/db", "", false);
  EXPECT_EQ(look("shop"), true);
  EXPECT_EQ(look("shop/"), true);
  EXPECT_EQ(look("shop/web/worker"), true);
  EXPECT_EQ(look("shop/db"), false);
}

TEST_F(Occupancy, the_canary_and_the_agent_are_not_applications) {
  cgroup("shop", "", true);
  cgroup("shop/meshd-canary", "21\n", true);
  cgroup("shop/meshd.service", "", true);
  cgroup("shop/meshd.service/agent", "22\n", true);
  EXPECT_EQ(look("shop", "shop/meshd.service/agent"), false);
  EXPECT_EQ(look("shop"), true) << "another agent is a process like others";
}

TEST_F(Occupancy, the_root_has_no_events_and_is_looked_into) {
  cgroup("", "1\n", true);
  fs::remove(root_ / "cgroup.events");
  EXPECT_EQ(look(""), true);
}

TEST_F(Occupancy, a_cgroup_that_is_not_there_is_unknown) { EXPECT_EQ(look("shop"), std::nullopt); }

}  // namespace
}  // namespace mesh::datapath
