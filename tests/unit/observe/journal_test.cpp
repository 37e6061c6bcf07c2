// SPDX-License-Identifier: Apache-2.0
#include "observe/journal.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace mesh::observe {
namespace {

using namespace std::chrono_literals;

constexpr base::TimePoint kStart{1000s};
constexpr base::WallTime kWall{std::chrono::seconds(1'790'000'000)};

api::HistoryEvent event(std::string kind, std::string service = "", std::string text = "",
                        base::WallTime time = kWall) {
  return {base::format_rfc3339(time), std::move(kind), std::move(service), "", std::move(text), 1};
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "journal-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(JournalTest, what_was_noted_is_read_again_oldest_first_also_by_the_next_agent) {
  {
    Journal journal({.folder = folder_ + "/journal"});
    journal.note(event("plan", "", "first"));
    journal.note(event("probe", "orders 240.64.0.10:80/tcp", "up \"quoted\"\nline", kWall + 1s));
  }
  Journal journal({.folder = folder_ + "/journal"});
  const auto list = journal.read({}, kWall + 10s);
  ASSERT_EQ(list.items.size(), 2U);
  EXPECT_EQ(list.items[0].text, "first");
  EXPECT_EQ(list.items[1].text, "up \"quoted\"\nline");
  EXPECT_EQ(list.lines_skipped, 0U);
  EXPECT_EQ(journal.read({.service = "orders"}, kWall).items.size(), 1U);
  EXPECT_EQ(journal.read({.since_s = 9}, kWall + 10s).items.size(), 1U);
  const auto newest = journal.read({.limit = 1}, kWall);
  ASSERT_EQ(newest.items.size(), 1U);
  EXPECT_EQ(newest.items[0].kind, "probe");
  EXPECT_EQ(newest.left_out, 1U);
}

TEST_F(JournalTest, the_files_stay_within_their_size_and_the_newest_events_stay) {
  const std::string folder = folder_ + "/journal";
  for (int round = 0; round < 100; ++round) {
    Journal journal({.folder = folder, .file_bytes = 1000, .files = 3});
    journal.note(event("plan", "", std::to_string(round)));
    journal.note(event("plan", "", std::string(200, 'x')));
  }
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) bytes += file.file_size();
  EXPECT_LE(bytes, 3000U);
  EXPECT_GT(bytes, 1500U);
  const auto list = Journal({.folder = folder, .file_bytes = 1000, .files = 3}).read({}, kWall);
  ASSERT_FALSE(list.items.empty());
  EXPECT_EQ(list.items[list.items.size() - 2].text, "99");
  EXPECT_EQ(list.lines_skipped, 0U);
}

TEST_F(JournalTest, a_line_cut_by_a_crash_costs_only_itself) {
  const std::string folder = folder_ + "/journal";
  {
    Journal({.folder = folder}).note(event("plan", "", "before"));
  }
  std::ofstream(folder + "/journal.jsonl", std::ios::app) << R"({"time":"2026-)";
  {
    Journal({.folder = folder}).note(event("plan", "", "after"));
  }
  const auto list = Journal({.folder = folder}).read({}, kWall);
  ASSERT_EQ(list.items.size(), 2U);
  EXPECT_EQ(list.items[1].text, "after");
  EXPECT_EQ(list.lines_skipped, 1U);
}

TEST_F(JournalTest, a_folder_that_cant_be_written_is_said_and_counted) {
  std::ofstream(folder_ + "/journal") << "a file";
  Journal::Status status;
  {
    Journal journal({.folder = folder_ + "/journal"});
    journal.note(event("plan"));
    while (status.lost == 0) status = journal.status();
    EXPECT_FALSE(journal.read({}, kWall).error.empty());
  }
  EXPECT_EQ(status.written, 0U);
  EXPECT_NE(status.error.find("agent.state_dir"), std::string::npos) << status.error;
}

TEST(JournalLines, any_cut_or_flipped_byte_costs_at_most_the_lines_it_is_in) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::string text;
  constexpr int kLines = 20;
  for (int i = 0; i < kLines; ++i) text += encode_event(event("probe", "s", std::to_string(i)));
  for (int round = 0; round < 2000; ++round) {
    std::string broken = text;
    const std::size_t from = random() % broken.size();
    const std::size_t length = std::min(broken.size() - from, std::size_t{1 + random() % 100});
    if (random() % 2 == 0) {
      broken.erase(from, length);
    } else {
      for (std::size_t i = from; i < from + length; ++i) broken[i] = static_cast<char>(random());
    }
    // A line ends beyond the damage at the latest; those whole outside of it are read as they were.
    const std::string_view view = text;
    const auto before = std::count(view.begin(), view.begin() + static_cast<std::ptrdiff_t>(from), '\n');
    const auto after = std::count(view.begin() + static_cast<std::ptrdiff_t>(from + length), view.end(), '\n');
    std::vector<std::string> seen;
    decode_events(broken, [&](api::HistoryEvent one) { seen.push_back(std::move(one.text)); });
    ASSERT_GE(static_cast<long>(seen.size()), before + std::max(0L, after - 1)) << broken;
    for (long i = 0; i < before; ++i) ASSERT_EQ(seen[static_cast<std::size_t>(i)], std::to_string(i));
    for (long i = 1; i < after; ++i)
      ASSERT_EQ(seen[seen.size() - static_cast<std::size_t>(i)], std::to_string(kLines - i));
  }
}

TEST(JournalLines, a_service_is_named_by_name_port_or_address) {
  const auto about = event("probe", "orders 240.64.0.10:80/tcp");
  for (const char* name : {"", "orders", "orders:80", "240.64.0.10:80"}) EXPECT_TRUE(is_about(about, name)) << name;
  for (const char* name : {"order", "orders:8", "orders:8080", "240.64.0.10"})
    EXPECT_FALSE(is_about(about, name)) << name;
  EXPECT_FALSE(is_about(event("plan"), "orders"));
}

TEST(Coalesce, the_first_passes_at_once_the_rest_of_the_window_as_one) {
  Coalescer coalescer;
  ASSERT_TRUE(coalescer.admit(event("refused", "a", "1"), 60s, kStart));
  EXPECT_FALSE(coalescer.admit(event("refused", "a", "2"), 60s, kStart + 1s));
  EXPECT_FALSE(coalescer.admit(event("refused", "a", "3"), 60s, kStart + 2s));
  EXPECT_TRUE(coalescer.admit(event("refused", "b"), 60s, kStart + 2s)) << "another service is another matter";
  EXPECT_TRUE(coalescer.admit(event("refused", "a"), 0s, kStart + 2s)) << "without a window it passes";
  EXPECT_EQ(coalescer.next_due(), kStart + 60s);
  EXPECT_TRUE(coalescer.take_due(kStart + 59s).empty());
  const auto due = coalescer.take_due(kStart + 60s);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].text, "3");
  EXPECT_EQ(due[0].count, 2U);
  EXPECT_TRUE(coalescer.take_due(kStart + 300s).empty());
  EXPECT_FALSE(coalescer.next_due()) << "what has gone quiet is forgotten";
  EXPECT_TRUE(coalescer.admit(event("refused", "a"), 60s, kStart + 301s));
}

TEST(Coalesce, a_flood_of_keys_stays_bounded_and_loses_nothing) {
  Coalescer coalescer;
  for (std::size_t i = 0; i < Coalescer::kKeysMax + 10; ++i) {
    ASSERT_TRUE(coalescer.admit(event("refused", std::to_string(i)), 60s, kStart));
  }
  EXPECT_TRUE(coalescer.admit(event("refused", std::to_string(Coalescer::kKeysMax + 1)), 60s, kStart));
}

}  // namespace
}  // namespace mesh::observe
