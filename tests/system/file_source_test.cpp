// SPDX-License-Identifier: Apache-2.0
// The file source with its thread and real inotify: every way in which people
// and tools replace files.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "discovery/file.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// Holds the newest update of a source; waits for one that fits.
class Newest {
 public:
  Source::Publish publish() {
    return [this](UpdatePtr update) {
      const std::lock_guard lock(mutex_);
      update_ = std::move(update);
      at_ = base::steady_now();
      changed_.notify_all();
    };
  }
  template <typename Fits>
  UpdatePtr wait(Fits fits) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 5s, [&] { return update_ && fits(*update_); })) return nullptr;
    return update_;
  }
  UpdatePtr wait_for_endpoints(std::size_t count) {
    return wait([&](const model::Update& update) { return update.status.endpoints == count; });
  }
  base::TimePoint at() {
    const std::lock_guard lock(mutex_);
    return at_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  UpdatePtr update_;
  base::TimePoint at_{};
};

std::string services(int count, int endpoints) {
  std::string text = "{\"services\":[";
  for (int s = 0; s < count; ++s) {
    text += std::string(s > 0 ? "," : "") + "{\"name\":\"s\",\"address\":\"240.64." + std::to_string(s / 256) + "." +
            std::to_string(s % 256) + ":80\",\"endpoints\":[";
    for (int e = 0; e < endpoints; ++e) {
      text += std::string(e > 0 ? "," : "") + "\"10." + std::to_string(s / 256) + "." + std::to_string(s % 256) + "." +
              std::to_string(e) + ":80\"";
    }
    text += "]}";
  }
  return text + "]}";
}

class FileSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "meshd-source-XXXXXX";
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override {
    if (source_) source_->stop();
    fs::remove_all(folder_);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write_in_place(const std::string& name, const std::string& text) { std::ofstream(path(name)) << text; }
  void replace(const std::string& name, const std::string& text) {
    std::ofstream(path(name + ".new")) << text;
    fs::rename(path(name + ".new"), path(name));
  }
  void start(std::vector<std::string> paths, std::chrono::milliseconds rescan_interval = 10min) {
    SourceInput input;
    for (std::string& file : paths) input.files.push_back({std::move(file), nullptr});
    source_.emplace(std::move(input), FileSource::Options{.restored = {}, .rescan_interval = rescan_interval});
    source_->start(newest_.publish());
  }

  std::string folder_;
  Newest newest_;
  std::optional<FileSource> source_;
};

TEST_F(FileSourceTest, sees_a_file_written_in_place_renamed_and_linked) {
  write_in_place("a.json", services(1, 1));
  start({path("a.json")});
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  write_in_place("a.json", services(1, 2));
  ASSERT_TRUE(newest_.wait_for_endpoints(2));
  replace("a.json", services(1, 3));
  ASSERT_TRUE(newest_.wait_for_endpoints(3));
  replace("a.json", services(1,
                             4));  // again: the watch must not have stayed with the old inode
  ASSERT_TRUE(newest_.wait_for_endpoints(4));
  fs::remove(path("a.json"));
  ASSERT_TRUE(newest_.wait([](const auto& update) { return update.status.state == model::SourceState::kStale; }));
  write_in_place("b.txt", services(1, 5));
  fs::create_hard_link(path("b.txt"), path("a.json"));
  ASSERT_TRUE(newest_.wait_for_endpoints(5));
}

TEST_F(FileSourceTest, follows_the_symbolic_links_that_a_config_map_swaps) {
  // Kubernetes: NAME -> ..data/NAME, ..data -> ..2026_x; an update makes a new
  // folder and renames a link over ..data.
  const auto version = [&](const std::string& name, int endpoints) {
    fs::create_directories(path("cm/" + name));
    write_in_place("cm/" + name + "/a.json", services(1, endpoints));
    fs::create_symlink(name, path("cm/..data_tmp"));
    fs::rename(path("cm/..data_tmp"), path("cm/..data"));
  };
  for (const bool as_folder : {false, true}) {
    fs::remove_all(path("cm"));
    version("..v1", 1);
    fs::create_symlink("..data/a.json", path("cm/a.json"));
    Newest newest;
    SourceInput input;
    input.files.push_back({path(as_folder ? "cm" : "cm/a.json"), nullptr});
    FileSource source(std::move(input));
    source.start(newest.publish());
    ASSERT_TRUE(newest.wait_for_endpoints(1)) << as_folder;
    version("..v2", 2);
    fs::remove_all(path("cm/..v1"));
    ASSERT_TRUE(newest.wait_for_endpoints(2)) << as_folder;
    version("..v3", 3);
    ASSERT_TRUE(newest.wait_for_endpoints(3)) << as_folder;
    source.stop();
  }
}

TEST_F(FileSourceTest, waits_for_a_folder_that_does_not_exist_yet) {
  start({path("deep/er/services")});
  ASSERT_TRUE(newest_.wait([](const auto& update) { return update.status.error.has_value(); }));
  fs::create_directories(path("deep/er/services"));
  write_in_place("deep/er/services/a.json", services(1, 1));
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  replace("deep/er/services/b.json",
          "{\"services\":[{\"name\":\"b\",\"address\":\"240.65.0.1:80\","
          "\"endpoints\":[\"10.9.0.1:80\"]}]}");
  ASSERT_TRUE(newest_.wait_for_endpoints(2));
}

TEST_F(FileSourceTest, a_folder_that_is_replaced_as_a_whole_is_read_again) {
  fs::create_directory(path("s"));
  write_in_place("s/a.json", services(1, 1));
  start({path("s")});
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  fs::create_directory(path("t"));
  write_in_place("t/a.json", services(1, 2));
  fs::rename(path("s"), path("old"));
  fs::rename(path("t"), path("s"));
  ASSERT_TRUE(newest_.wait_for_endpoints(2));
  replace("s/a.json", services(1, 3));
  ASSERT_TRUE(newest_.wait_for_endpoints(3));
}

TEST_F(FileSourceTest, a_writer_that_is_not_done_is_not_read) {
  write_in_place("a.json", services(1, 1));
  start({path("a.json"), path("other.json")});
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  const std::string text = services(1, 9);
  std::ofstream half(path("a.json"));
  half << text.substr(0, text.size() / 2) << std::flush;
  replace("other.json",
          "{\"services\":[{\"name\":\"b\",\"address\":\"240.65.0."
          "1:80\",\"endpoints\":[\"10.9.0.1:80\"]}]}");
  const auto update = newest_.wait_for_endpoints(2);
  ASSERT_TRUE(update);
  EXPECT_EQ(update->status.state, model::SourceState::kSynced);
  half << text.substr(text.size() / 2);
  half.close();
  ASSERT_TRUE(newest_.wait_for_endpoints(10));
}

TEST_F(FileSourceTest, a_rescan_finds_what_no_event_told) {
  write_in_place("a.json", services(1, 1));
  std::ofstream held(path("a.json"),
                     std::ios::app);  // stays open: its close would be an event
  start({path("a.json")}, 50ms);
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  fs::resize_file(path("a.json"), 0);
  held << services(1, 2) << std::flush;
  ASSERT_TRUE(newest_.wait_for_endpoints(2));
}

TEST_F(FileSourceTest, takes_a_new_configuration_and_stops_at_once) {
  write_in_place("a.json", services(1, 1));
  write_in_place("b.json", services(2, 2));
  start({path("a.json")});
  ASSERT_TRUE(newest_.wait_for_endpoints(1));
  SourceInput input;
  input.files.push_back({path("b.json"), nullptr});
  source_->reconfigure(input);
  ASSERT_TRUE(newest_.wait_for_endpoints(4));
  source_->set_stale({base::ErrorKind::kInvalid, "broken", "", 0});
  ASSERT_TRUE(newest_.wait([](const auto& update) { return update.status.state == model::SourceState::kStale; }));
  const auto before = base::steady_now();
  source_->stop();
  EXPECT_LT(base::steady_now() - before, 2s);
}

TEST_F(FileSourceTest, bursts_of_changes_end_with_the_last_one) {
  fs::create_directory(path("s"));
  start({path("s")});
  for (int round = 1; round <= 300; ++round) replace("s/a.json", services(1, 1 + round % 50));
  replace("s/a.json", services(1, 77));
  ASSERT_TRUE(newest_.wait_for_endpoints(77));
}

TEST_F(FileSourceTest, a_change_in_one_of_a_hundred_files_is_published_in_milliseconds) {
  fs::create_directory(path("s"));
  const auto file_text = [](int file, int endpoints_of_first) {
    std::string text = "{\"services\":[";
    for (int s = 0; s < 100; ++s) {
      text += std::string(s > 0 ? "," : "") + "{\"name\":\"s\",\"address\":\"240." + std::to_string(64 + file) + ".0." +
              std::to_string(s) + ":80\",\"endpoints\":[";
      const int endpoints = s == 0 ? endpoints_of_first : 10;
      for (int e = 0; e < endpoints; ++e) {
        text += std::string(e > 0 ? "," : "") + "{\"address\":\"10." + std::to_string(file) + "." + std::to_string(s) +
                "." + std::to_string(e) + ":8080\",\"weight\":1}";
      }
      text += "]}";
    }
    return text + "]}";
  };
  for (int file = 0; file < 100; ++file) replace("s/" + std::to_string(file) + ".json", file_text(file, 10));
  start({path("s")});
  ASSERT_TRUE(newest_.wait_for_endpoints(100'000));
  std::vector<double> milliseconds;
  for (int round = 0; round < 100; ++round) {
    const int endpoints = 11 + round;
    std::ofstream(path("s/50.json.new")) << file_text(50, endpoints);
    const auto before = base::steady_now();
    fs::rename(path("s/50.json.new"), path("s/50.json"));
    ASSERT_TRUE(newest_.wait_for_endpoints(99'990u + static_cast<unsigned>(endpoints)));
    milliseconds.push_back(std::chrono::duration<double, std::milli>(newest_.at() - before).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf(
      "change to update, 10,000 services in 100 files: median %.3f ms, "
      "p99 %.3f ms\n",
      milliseconds[50], milliseconds[98]);
  EXPECT_LT(milliseconds[50], 10);
}

}  // namespace
}  // namespace mesh::discovery
