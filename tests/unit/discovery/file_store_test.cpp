// SPDX-License-Identifier: Apache-2.0
// The file source without its thread: temporary files, changed and broken step
// by step.
#include "discovery/file_store.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using model::SourceState;

class FileStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "meshd-files-XXXXXX";
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string write(const std::string& name, std::string_view text) {
    const std::string full = path(name);
    std::ofstream(full + ".new") << text;
    std::filesystem::rename(full + ".new", full);
    return full;
  }
  static std::string service_text(int number, int endpoints, int weight = 1) {
    std::string text = "{\"name\":\"s" + std::to_string(number) + "\",\"address\":\"240.64.0." +
                       std::to_string(number) + ":80\",\"endpoints\":[";
    for (int i = 1; i <= endpoints; ++i) {
      text += std::string(i > 1 ? "," : "") + "{\"address\":\"10.0." + std::to_string(number) + "." +
              std::to_string(i) + ":80\",\"weight\":" + std::to_string(weight) + "}";
    }
    return text + "]}";
  }
  static std::string services_text(std::initializer_list<std::string> services) {
    std::string text = "{\"services\":[";
    for (const std::string& service : services) text += (text.ends_with('[') ? "" : ",") + service;
    return text + "]}";
  }
  static model::ServicePtr setting(const char* name, const char* address) {
    model::Service service;
    service.name = name;
    service.frontend.address = *base::SocketAddress::parse(address);
    service.source = "file";
    return std::make_shared<const model::Service>(std::move(service));
  }
  UpdatePtr configure(SourceInput input, Vanished vanished = Vanished::kKeep) {
    store_.configure(std::move(input), vanished, now_);
    return store_.update(std::nullopt);
  }
  UpdatePtr refresh(const std::string& file) {
    now_ += 1s;
    changed_ = store_.refresh(file, now_);
    return store_.update(std::nullopt);
  }
  static SourceInput files(std::vector<std::string> paths) {
    SourceInput input;
    for (std::string& file : paths) input.files.push_back({std::move(file), nullptr});
    return input;
  }

  std::string folder_;
  FileStore store_{Restored{}};
  base::WallTime now_{1'790'000'000s};
  bool changed_ = false;
};

TEST_F(FileStoreTest, a_changed_service_gets_a_new_pointer_and_no_other_does) {
  const std::string file = write("a.json", services_text({service_text(1, 2), service_text(2, 2), service_text(3, 2)}));
  const auto before = configure(files({file}));
  ASSERT_EQ(before->services.size(), 3u);
  EXPECT_EQ(before->status.state, SourceState::kSynced);
  EXPECT_EQ(before->status.endpoints, 6u);

  write("a.json", services_text({service_text(3, 2), service_text(2, 3), service_text(1, 2)}));
  const auto after = refresh(file);
  EXPECT_TRUE(changed_);
  ASSERT_EQ(after->services.size(), 3u);
  EXPECT_EQ(after->services[0], before->services[0]);
  EXPECT_NE(after->services[1], before->services[1]);
  EXPECT_EQ(after->services[1]->endpoints.size(), 3u);
  EXPECT_EQ(after->services[2], before->services[2]);
  EXPECT_EQ(after->status.endpoints, 7u);
}

TEST_F(FileStoreTest, the_same_content_again_is_no_change) {
  const std::string file = write("a.json", services_text({service_text(1, 2)}));
  configure(files({file}));
  write("a.json", "\n" + services_text({service_text(1, 2)}));
  refresh(file);
  EXPECT_FALSE(changed_);
}

TEST_F(FileStoreTest, a_broken_file_keeps_its_services_and_says_so_until_it_is_good) {
  const std::string file = write("a.json", services_text({service_text(1, 2)}));
  const auto good = configure(files({file}));
  const auto good_at = now_;
  for (const char* broken :
       {"", "{", "[]", "{\"services\":[{}]}", "{\"services\":null}", "{\"endpoints\":[]}", "\xff\xfe"}) {
    write("a.json", broken);
    const auto stale = refresh(file);
    EXPECT_EQ(stale->services, good->services) << broken;
    EXPECT_EQ(stale->status.state, SourceState::kStale) << broken;
    EXPECT_EQ(stale->status.synced_at, good_at);
    ASSERT_TRUE(stale->status.error) << broken;
    EXPECT_THAT(stale->status.error->message, testing::HasSubstr(file)) << broken;
  }
  write("a.json", services_text({service_text(1, 2)}));
  const auto again = refresh(file);
  EXPECT_TRUE(changed_);
  EXPECT_EQ(again->services, good->services);
  EXPECT_EQ(again->status.state, SourceState::kSynced);
  EXPECT_FALSE(again->status.error);
}

TEST_F(FileStoreTest, an_empty_list_in_a_good_file_is_meant) {
  const std::string file = write("a.json", services_text({service_text(1, 2)}));
  configure(files({file}));
  write("a.json", "{\"services\":[]}");
  const auto update = refresh(file);
  EXPECT_TRUE(update->services.empty());
  EXPECT_EQ(update->status.state, SourceState::kSynced);
}

TEST_F(FileStoreTest, a_file_of_endpoints_fills_all_services_that_name_it) {
  const std::string file = write("e.yaml", "- 10.0.0.1:80\n- {address: 10.0.0.2:80, weight: 5}\n");
  SourceInput input;
  input.files = {{file, setting("a", "240.64.0.1:80")}, {file, setting("b", "240.64.0.2:80")}};
  const auto before = configure(input);
  ASSERT_EQ(before->services.size(), 2u);
  EXPECT_EQ(before->services[0]->endpoints.size(), 2u);
  EXPECT_EQ(before->services[1]->endpoints[1].weight, 5);

  write("e.yaml", "endpoints: [\"[fd00::1]:80\"]\n");
  const auto stale = refresh(file);
  EXPECT_EQ(stale->services, before->services);
  EXPECT_EQ(stale->status.error->to_string(), file +
                                                  ":1:13: endpoints[0]: [fd00::1]:80 is IPv6, the service's "
                                                  "address 240.64.0.1:80 is IPv4; a service "
                                                  "and its endpoints are of one family");
}

TEST_F(FileStoreTest, new_settings_hold_at_once_for_the_endpoints_of_a_broken_file) {
  const std::string file = write("e.json", "[\"10.0.0.1:80\"]");
  SourceInput input;
  input.files = {{file, setting("a", "240.64.0.1:80")}};
  configure(input);
  write("e.json", "[");
  input.files = {{file, setting("renamed", "240.64.0.9:80")}};
  const auto update = configure(input);
  ASSERT_EQ(update->services.size(), 1u);
  EXPECT_EQ(update->services[0]->name, "renamed");
  EXPECT_EQ(update->services[0]->endpoints.size(), 1u);
  EXPECT_EQ(update->status.state, SourceState::kStale);
}

TEST_F(FileStoreTest, a_folder_brings_files_in_and_keeps_what_vanished_until_a_reload_by_hand) {
  write("a.json", services_text({service_text(1, 1)}));
  write(".hidden.json", "broken");
  write("notes.txt", "broken");
  const auto before = configure(files({folder_}));
  ASSERT_EQ(before->services.size(), 1u);

  const std::string second = write("b.json", services_text({service_text(2, 1)}));
  const auto with_second = refresh(folder_);
  EXPECT_EQ(with_second->services.size(), 2u);
  EXPECT_EQ(with_second->status.state, SourceState::kSynced);

  std::filesystem::remove(second);
  const auto stale = refresh(second);
  EXPECT_EQ(stale->services, with_second->services);
  EXPECT_EQ(stale->status.state, SourceState::kStale);
  EXPECT_EQ(configure(files({folder_}))->services.size(), 2u);

  const auto forgotten = configure(files({folder_}), Vanished::kForget);
  EXPECT_EQ(forgotten->services, before->services);
  EXPECT_EQ(forgotten->status.state, SourceState::kSynced);
}

TEST_F(FileStoreTest, a_folder_that_vanished_keeps_all_of_its_services) {
  const std::string sub = path("services");
  std::filesystem::create_directory(sub);
  write("services/a.json", services_text({service_text(1, 1)}));
  const auto before = configure(files({sub}));
  ASSERT_EQ(before->services.size(), 1u);
  std::filesystem::remove_all(sub);
  refresh(sub + "/a.json");
  const auto stale = refresh(sub);
  EXPECT_EQ(stale->services, before->services);
  EXPECT_EQ(stale->status.state, SourceState::kStale);
  EXPECT_EQ(configure(files({sub}))->services, before->services);
}

TEST_F(FileStoreTest, what_is_no_longer_configured_goes) {
  const std::string a = write("a.json", services_text({service_text(1, 1)}));
  const std::string b = write("b.json", services_text({service_text(2, 1)}));
  EXPECT_EQ(configure(files({a, b}))->services.size(), 2u);
  EXPECT_EQ(configure(files({b}))->services.size(), 1u);
  EXPECT_EQ(store_.paths(), std::vector{b});
}

TEST_F(FileStoreTest, files_that_are_absent_after_a_reboot_start_from_the_last_good_state) {
  const std::string a = write("a.json", services_text({service_text(1, 2)}));
  const std::string e = write("e.json", "[\"10.0.0.1:80\"]");
  const std::string sub = path("sub");
  std::filesystem::create_directory(sub);
  write("sub/c.json", services_text({service_text(3, 1)}));
  SourceInput input = files({a, sub});
  input.files.push_back({e, setting("e", "240.64.0.200:80")});
  const auto saved = configure(input);
  ASSERT_EQ(saved->services.size(), 3u);

  std::filesystem::remove_all(sub);
  std::filesystem::remove(a);
  std::filesystem::remove(e);
  const base::WallTime saved_at{1'700'000'000s};
  FileStore rebooted(Restored{saved->services, saved_at});
  rebooted.configure(input, Vanished::kKeep, now_);
  const auto update = rebooted.update(std::nullopt);
  ASSERT_EQ(update->services.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(update->services[i]->same_as(*saved->services[i]));
  EXPECT_EQ(update->status.state, SourceState::kStale);
  EXPECT_EQ(update->status.synced_at, saved_at);
}

TEST_F(FileStoreTest, a_broken_configuration_makes_the_source_stale_until_the_next_good_one) {
  const std::string a = write("a.json", services_text({service_text(1, 2)}));
  const auto before = configure(files({a}));
  store_.set_stale({base::ErrorKind::kInvalid, "meshd.yaml:1:1: wrong", "", 0});
  const auto stale = store_.update(std::nullopt);
  EXPECT_EQ(stale->services, before->services);
  EXPECT_EQ(stale->status.state, SourceState::kStale);
  EXPECT_EQ(stale->status.error->message, "meshd.yaml:1:1: wrong");
  EXPECT_EQ(configure(files({a}))->status.state, SourceState::kSynced);
}

TEST_F(FileStoreTest, the_order_of_the_configuration_is_the_precedence_of_equal_addresses) {
  const std::string a = write("a.json", services_text({service_text(1, 1)}));
  const std::string b = write("b.json", services_text({service_text(1, 2)}));
  const auto update = configure(files({b, a}));
  ASSERT_EQ(update->services.size(), 2u);
  EXPECT_EQ(update->services[0]->endpoints.size(), 2u);
}

TEST_F(FileStoreTest, a_pipe_or_folder_in_place_of_a_file_is_an_error_and_never_waited_for) {
  const std::string a = write("a.json", services_text({service_text(1, 2)}));
  const auto before = configure(files({a}));
  std::filesystem::remove(a);
  ASSERT_EQ(::mkfifo(a.c_str(), 0600), 0);
  const auto stale = refresh(a);
  EXPECT_EQ(stale->services, before->services);
  EXPECT_THAT(stale->status.error->message, testing::HasSubstr("not a regular file"));
}

// Invariant I7: whatever happens to files, only a whole and good file can take
// endpoints away.
TEST_F(FileStoreTest, no_sequence_of_breakage_removes_endpoints) {
  const std::uint64_t seed = 4242;
  RecordProperty("seed", std::to_string(seed));
  base::Random random(seed);
  const std::string sub = path("sub");
  const std::vector<std::string> names = {"sub/a.json", "sub/b.json", "c.json"};
  std::vector<std::string> good(names.size());
  std::filesystem::create_directory(sub);
  for (std::size_t i = 0; i < names.size(); ++i) {
    good[i] = services_text({service_text(static_cast<int>(i) + 1, 3)});
    write(names[i], good[i]);
  }
  const SourceInput input = files({sub, path("c.json")});
  const auto first = configure(input);
  ASSERT_EQ(first->services.size(), 3u);
  for (int step = 0; step < 3000; ++step) {
    const std::size_t which = random.below(names.size());
    const std::string file = path(names[which]);
    const bool has_folder = std::filesystem::exists(sub);
    switch (random.below(9)) {
      case 0:
        std::filesystem::remove(file);
        break;
      case 1:
        if (has_folder) write(names[which], std::string_view(good[which]).substr(0, random.below(good[which].size())));
        break;
      case 2:
        if (has_folder) {
          std::string text = good[which];
          text[random.below(text.size())] = static_cast<char>(random.below(256));
          // A changed letter may give another whole and good file; only broken
          // ones are wanted here.
          if (!parse_services(file, text, {}).good()) write(names[which], text);
        }
        break;
      case 3:
        std::filesystem::remove_all(sub);
        break;
      case 4:
        std::filesystem::create_directory(sub);
        break;
      case 5:
        if (has_folder) write(names[which], good[which]);
        break;
      case 6:
        store_.set_stale({base::ErrorKind::kInvalid, "broken configuration", "", 0});
        break;
      case 7:
        store_.configure(input, Vanished::kKeep, now_);
        break;
      default:
        store_.rescan(FileStore::Unsettled::kRead, now_);
    }
    if (random.below(2) == 0) refresh(file);
    if (random.below(4) == 0) refresh(sub);
    const auto update = store_.update(std::nullopt);
    ASSERT_EQ(update->services.size(), 3u) << "seed " << seed << " step " << step;
    for (std::size_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(update->services[i]->same_as(*first->services[i])) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace mesh::discovery
