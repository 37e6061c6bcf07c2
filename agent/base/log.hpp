// SPDX-License-Identifier: Apache-2.0
// Structured logging: a constant message and key/value fields, one JSON object per line, or text on a terminal.
//
//   base::log::info("service added", {{"service", name}, {"endpoints", count}});
//   constexpr base::log::Logger kLog{"prober"};   // the "logger" key
//   kLog.warn("probe failed", {{"endpoint", address.to_string()}, {"err", error.to_string()}});
//
// What varies goes into fields, never into the message: equal messages of one level and logger share a rate limit
// (kBurst lines per kWindow), and what was held back is counted in a line of its own. Thread-safe. Before init(), and
// in tests that never call it, warnings and errors go to stderr as text.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::base::log {

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError };
std::string_view to_string(Level level);  ///< "debug", "info", "warn", "error"
std::optional<Level> level_from(std::string_view text);

enum class Format : std::uint8_t { kAuto, kText, kJson };  ///< kAuto: text if the descriptor is a terminal, else JSON.
std::optional<Format> format_from(std::string_view text);

/// Stable keys: service, endpoint, source, err, path, cgroup, hook, uid, pid, duration_s.
struct Field {
  std::string_view key;  ///< a literal
  std::string value;
  bool quoted = true;  ///< false: a JSON number or true/false

  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  Field(std::string_view k, const Error& v) : key(k), value(v.to_string()) {}
  Field(std::string_view k, std::same_as<bool> auto v) : key(k), value(v ? "true" : "false"), quoted(false) {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Field(std::string_view k, T v) : key(k), value(std::to_string(v)), quoted(false) {}
  Field(std::string_view k, double v);
};

using Fields = std::initializer_list<Field>;

struct Options {
  Level level = Level::kInfo;
  Format format = Format::kAuto;
  int fd = 2;
  /// Lines are written by a thread of their own; when it can't keep up (somebody does not read our stderr), the oldest
  /// of kQueueLines are dropped and counted, so that no log line ever stops the agent.
  bool asynchronous = false;
};

inline constexpr std::size_t kQueueLines = 8192;
inline constexpr unsigned kBurst = 20;                        ///< lines per message ...
inline constexpr Duration kWindow = std::chrono::seconds(5);  ///< ... and window
inline constexpr std::size_t kMessagesMax = 1024;             ///< rate limits kept; further messages share one

void init(const Options& options);
void set_level(Level level);
[[nodiscard]] Level level();
/// Writes what is queued, and lines for what rate limits hold back; call before exit.
void flush();
/// Lines dropped because the queue was full, since init().
[[nodiscard]] std::uint64_t dropped();

void write(Level level, std::string_view logger, std::string_view message, std::span<const Field> fields);

inline void debug(std::string_view message, Fields fields = {}) { write(Level::kDebug, "meshd", message, fields); }
inline void info(std::string_view message, Fields fields = {}) { write(Level::kInfo, "meshd", message, fields); }
inline void warn(std::string_view message, Fields fields = {}) { write(Level::kWarn, "meshd", message, fields); }
inline void error(std::string_view message, Fields fields = {}) { write(Level::kError, "meshd", message, fields); }

struct Logger {
  std::string_view name;
  void debug(std::string_view message, Fields fields = {}) const { write(Level::kDebug, name, message, fields); }
  void info(std::string_view message, Fields fields = {}) const { write(Level::kInfo, name, message, fields); }
  void warn(std::string_view message, Fields fields = {}) const { write(Level::kWarn, name, message, fields); }
  void error(std::string_view message, Fields fields = {}) const { write(Level::kError, name, message, fields); }
};

// The pure parts, for tests.

struct Record {
  WallTime time;
  Level level;
  std::string_view logger;
  std::string_view message;
  std::span<const Field> fields;
};

/// {"time":"2026-11-20T12:04:31.042000001Z","level":"info","msg":"...","logger":"...",...} without a final newline.
std::string format_json(const Record& record);
/// 2026-11-20T12:04:31.042Z info  meshd: message key=value key="two words"
std::string format_text(const Record& record, bool colour);

/// Admits kBurst lines per key and window, counts the others.
class RateLimit {
 public:
  struct Suppressed {
    Level level;
    std::string logger;
    std::string message;
    std::uint64_t count;
  };

  [[nodiscard]] bool admit(const Record& record, TimePoint now);
  /// What was held back in windows that are over at `now`.
  [[nodiscard]] std::vector<Suppressed> take_suppressed(TimePoint now);

 private:
  struct Entry {
    Level level;
    std::string logger;
    std::string message;
    TimePoint window_start;
    unsigned admitted = 0;
    std::uint64_t suppressed = 0;
  };
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace mesh::base::log
