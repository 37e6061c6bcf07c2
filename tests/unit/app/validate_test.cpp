// SPDX-License-Identifier: Apache-2.0
#include "app/validate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace mesh::app {
namespace {

class ValidateTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "validate-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    return path;
  }
  /// The lines that people get, with the folder left out.
  std::vector<std::string> lines(const std::string& services) {
    const std::string path = write("meshd.yaml", "apiVersion: meshd/v1\nagent: {cgroups: [/]}\n" + services);
    view_ = validate_config(path);
    std::vector<std::string> lines = lines_of(view_);
    for (std::string& line : lines) {
      for (auto at = line.find(folder_); at != std::string::npos; at = line.find(folder_))
        line.erase(at, folder_.size());
    }
    return lines;
  }
  [[nodiscard]] std::string watched() const {
    return "services:\n- {name: a, address: 240.64.0.1:80, file: " + folder_ + "/a.json}\nfiles: [" + folder_ +
           "/more]\n";
  }

  std::string folder_;
  api::ValidateView view_;
};

using Lines = std::vector<std::string>;

TEST_F(ValidateTest, what_watched_files_say_is_counted) {
  write("a.json", R"(["10.0.0.1:80", "10.0.0.2:80"])");
  write("more/b.yaml", "services:\n- {name: b, address: 240.64.0.2:80, endpoints: [10.0.0.3:80]}\n");
  write("more/readme.txt", "not looked at");
  EXPECT_EQ(lines(watched()), Lines{"/meshd.yaml: valid, 2 services, 3 endpoints, 2 watched files"});
  EXPECT_EQ(lines("services: [{name: a, address: 240.64.0.1:80, endpoints: [10.0.0.1:80]}]\n"),
            Lines{"/meshd.yaml: valid, 1 service, 1 endpoint"});
}

TEST_F(ValidateTest, a_broken_watched_file_is_an_error_at_its_place) {
  write("a.json", "[\"10.0.0.1:80\",\n {\"adress\": \"10.0.0.2:80\"}]");
  write("more/b.yaml", "services:\n- {name: b, address: 240.64.0.2:80, balance: fair, endpoints: []}\n");
  EXPECT_EQ(lines(watched()),
            (Lines{"/a.json:2:3: [1].adress: unknown key in an endpoint; did you mean 'address'?",
                   "/a.json:2:2: [1]: the key 'address' is missing",
                   "/more/b.yaml:2:46: services[0].balance: unknown value 'fair'; use one of: weighted_random, "
                   "round_robin, maglev, source_hash, least_connections, latency",
                   "/meshd.yaml: 3 errors in watched files, whose services would stay as they last were"}));
  EXPECT_FALSE(view_.ok);
}

TEST_F(ValidateTest, a_watched_file_that_is_not_there_is_a_warning) {
  EXPECT_EQ(lines(watched()),
            (Lines{"warning: /a.json: the file does not exist yet; its services have no endpoints until it does",
                   "warning: /more: the file does not exist yet; its services have no endpoints until it does",
                   "/meshd.yaml: valid, 1 service, 0 endpoints"}));
  EXPECT_TRUE(view_.ok);
}

TEST_F(ValidateTest, what_is_no_file_is_an_error) {
  std::filesystem::create_directories(folder_ + "/a.json");
  std::filesystem::create_directories(folder_ + "/more");
  EXPECT_EQ(lines(watched()).front(), "/a.json: not a regular file");
}

TEST_F(ValidateTest, errors_of_the_configuration_and_of_watched_files_are_told_together) {
  write("a.json", "");
  std::filesystem::create_directories(folder_ + "/more");
  const auto all = lines(watched() + "filez: 1\n");
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0], "/meshd.yaml:6:1: filez: unknown key; did you mean 'files'?");
  EXPECT_EQ(all[1], "/a.json: the file is empty; write {\"endpoints\": []} if there are none");
  EXPECT_EQ(all[2], "/meshd.yaml: 2 errors; nothing would be applied");
}

TEST_F(ValidateTest, an_address_in_two_files_is_a_warning_that_says_who_wins) {
  write("a.json", R"(["10.0.0.1:80"])");
  write("more/b.yaml", "services:\n- {name: b, address: 240.64.0.1:80, endpoints: [10.0.0.3:80]}\n");
  EXPECT_EQ(
      lines(watched()),
      (Lines{"warning: /more/b.yaml:2: 240.64.0.1:80/tcp is claimed by meshd.yaml:4 already, which wins; give one "
             "of them another address or port",
             "/meshd.yaml: valid, 1 service, 1 endpoint, 2 watched files"}));
}

}  // namespace
}  // namespace mesh::app
