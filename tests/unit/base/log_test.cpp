// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/fd.hpp"

namespace mesh::base::log {
namespace {

constexpr WallTime kTime{std::chrono::nanoseconds(1795176271042000001)};

Record record(std::string_view message, std::span<const Field> fields = {}) {
  return {kTime, Level::kInfo, "meshd", message, fields};
}

/// Logging into a pipe for the length of a test.
class Captured {
 public:
  Captured(Format format, bool asynchronous) {
    int ends[2];
    MESH_ASSERT(::pipe(ends) == 0);
    read_.reset(ends[0]);
    write_.reset(ends[1]);
    init({.level = Level::kInfo, .format = format, .fd = write_.get(), .asynchronous = asynchronous});
  }
  ~Captured() { init({.level = Level::kWarn}); }

  std::string finish() {
    flush();
    init({.level = Level::kWarn});
    write_.reset();
    std::string all;
    char buffer[4096];
    for (ssize_t count = 0; (count = ::read(read_.get(), buffer, sizeof(buffer))) > 0;) {
      all.append(buffer, static_cast<std::size_t>(count));
    }
    return all;
  }

 private:
  Fd read_;
  Fd write_;
};

TEST(Log, a_json_line_has_stable_keys_and_nanoseconds) {
  const Field fields[] = {{"service", "orders"}, {"count", 3}, {"ok", true}, {"ratio", 0.5}, {"err", "a \"b\"\n\x01"}};
  EXPECT_EQ(format_json(record("hello", fields)),
            R"({"time":"2026-11-20T12:04:31.042000001Z","level":"info","msg":"hello","logger":"meshd",)"
            R"("service":"orders","count":3,"ok":true,"ratio":0.5,"err":"a \"b\"\n\u0001"})");
}

TEST(Log, not_a_number_stays_json) {
  const Field fields[] = {{"ratio", std::numeric_limits<double>::quiet_NaN()}};
  EXPECT_TRUE(nlohmann::json::accept(format_json(record("x", fields))));
}

TEST(Log, a_text_line_quotes_what_would_be_ambiguous) {
  const Field fields[] = {{"service", "orders"}, {"err", "connection refused"}, {"empty", ""}, {"bad", "\033[31m"}};
  EXPECT_EQ(format_text(record("hello", fields), false),
            "2026-11-20T12:04:31.042Z info  meshd: hello service=orders err=\"connection refused\" empty=\"\" "
            "bad=\"\\u001b[31m\"");
}

TEST(Log, repeats_are_limited_and_counted) {
  RateLimit limit;
  const TimePoint start{std::chrono::hours(1)};
  unsigned admitted = 0;
  for (unsigned i = 0; i < kBurst + 7; ++i) admitted += limit.admit(record("again"), start) ? 1 : 0;
  EXPECT_EQ(admitted, kBurst);
  EXPECT_TRUE(limit.admit(record("another"), start));
  EXPECT_TRUE(limit.take_suppressed(start).empty()) << "the window is not over";
  const auto suppressed = limit.take_suppressed(start + kWindow);
  ASSERT_EQ(suppressed.size(), 1U);
  EXPECT_EQ(suppressed[0].message, "again");
  EXPECT_EQ(suppressed[0].count, 7U);
  EXPECT_TRUE(limit.admit(record("again"), start + kWindow));
}

TEST(Log, the_number_of_rate_limits_is_bounded) {
  RateLimit limit;
  const TimePoint now{std::chrono::hours(1)};
  for (std::size_t i = 0; i < kMessagesMax; ++i) EXPECT_TRUE(limit.admit(record("m" + std::to_string(i)), now));
  unsigned admitted = 0;
  for (unsigned i = 0; i < 100; ++i) admitted += limit.admit(record("n" + std::to_string(i)), now) ? 1 : 0;
  EXPECT_EQ(admitted, kBurst);
}

TEST(Log, lines_arrive_whole_and_below_the_level_nothing_does) {
  for (const bool asynchronous : {false, true}) {
    Captured captured(Format::kJson, asynchronous);
    debug("not seen");
    Logger{"prober"}.warn("seen", {{"endpoint", "10.0.0.1:80"}});
    set_level(Level::kDebug);
    debug("seen too");
    std::istringstream lines(captured.finish());
    std::vector<nlohmann::json> parsed;
    for (std::string line; std::getline(lines, line);) parsed.push_back(nlohmann::json::parse(line));
    ASSERT_EQ(parsed.size(), 2U);
    EXPECT_EQ(parsed[0]["logger"], "prober");
    EXPECT_EQ(parsed[0]["endpoint"], "10.0.0.1:80");
    EXPECT_EQ(parsed[1]["level"], "debug");
  }
}

TEST(Log, names_survive_a_round_trip) {
  for (const char* name : {"debug", "info", "warn", "error"}) EXPECT_EQ(to_string(level_from(name).value()), name);
  EXPECT_FALSE(level_from("verbose"));
  EXPECT_FALSE(format_from("xml"));
}

}  // namespace
}  // namespace mesh::base::log
