// SPDX-License-Identifier: Apache-2.0
// spdlog carries the lines (locking, the asynchronous queue, levels); what a line looks like is decided here.
#include "base/log.hpp"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>

namespace mesh::base::log {
namespace {

/// Writes whole lines to a descriptor; a line that can't be written is lost, there is nobody to tell.
class DescriptorSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit DescriptorSink(int fd) : fd_(fd) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line(message.payload.data(), message.payload.size());
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
      const ssize_t count = ::write(fd_, rest.data(), rest.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      rest.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void flush_() override {}

  int fd_;
};

struct State {
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::logger> logger;
  bool json = false;
  bool colour = false;
  bool journal = false;
  std::mutex limit_mutex;
  RateLimit limit;
  TimePoint last_report{};
};

std::atomic<Level> current_level{Level::kWarn};

std::shared_ptr<spdlog::logger> make_logger(const Options& options, State& state) {
  auto sink = std::make_shared<DescriptorSink>(options.fd);
  std::shared_ptr<spdlog::logger> logger;
  if (options.asynchronous) {
    state.pool = std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1);
    logger = std::make_shared<spdlog::async_logger>("meshd", std::move(sink), state.pool,
                                                    spdlog::async_overflow_policy::overrun_oldest);
  } else {
    logger = std::make_shared<spdlog::logger>("meshd", std::move(sink));
  }
  logger->set_level(spdlog::level::trace);
  return logger;
}

/// Leaked on purpose: threads may log while the process ends.
State& state() {
  static State& instance = [] -> State& {
    auto* made = new State;
    made->logger = make_logger({}, *made);
    return *made;
  }();
  return instance;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '"' || character == '\\') {
      out += '\\';
      out += character;
    } else if (character == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += character;
    }
  }
  out += '"';
}

std::string format_rfc3339_nanoseconds(WallTime time) {
  std::string text = format_rfc3339(time);  // ...SS.mmmZ
  const auto nanoseconds = time.time_since_epoch() % std::chrono::seconds(1);
  text.resize(text.size() - 4);
  return text + fmt::format("{:09}Z", nanoseconds.count());
}

std::string_view colour_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return "\033[2m";
    case Level::kInfo:
      return "\033[32m";
    case Level::kWarn:
      return "\033[33m";
    case Level::kError:
      return "\033[31m";
  }
  return "";
}

/// Priorities that journald reads from stderr (sd-daemon(3)).
std::string_view journal_prefix(Level level) {
  switch (level) {
    case Level::kDebug:
      return "<7>";
    case Level::kInfo:
      return "<6>";
    case Level::kWarn:
      return "<4>";
    case Level::kError:
      return "<3>";
  }
  return "";
}

void emit(State& to, const Record& record) {
  std::string line = to.json ? format_json(record) : format_text(record, to.colour);
  if (to.journal) line.insert(0, journal_prefix(record.level));
  to.logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

void report_suppressed(State& to, TimePoint now) {
  for (const RateLimit::Suppressed& held : to.limit.take_suppressed(now)) {
    const Field fields[] = {{"suppressed", held.count}, {"suppressed_msg", held.message}};
    emit(to, {wall_now(), held.level, held.logger, "repeated messages held back", fields});
  }
  to.last_report = now;
}

}  // namespace

Field::Field(std::string_view k, double v) : key(k), value(fmt::format("{:.9g}", v)), quoted(!std::isfinite(v)) {}

std::string_view to_string(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarn:
      return "warn";
    case Level::kError:
      return "error";
  }
  return "info";
}

std::optional<Level> level_from(std::string_view text) {
  for (const Level level : {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError}) {
    if (to_string(level) == text) return level;
  }
  return std::nullopt;
}

std::optional<Format> format_from(std::string_view text) {
  if (text == "auto") return Format::kAuto;
  if (text == "text") return Format::kText;
  if (text == "json") return Format::kJson;
  return std::nullopt;
}

void init(const Options& options) {
  State& to = state();
  const std::scoped_lock lock(to.limit_mutex);
  to.pool.reset();
  to.logger = make_logger(options, to);
  const bool terminal = ::isatty(options.fd) == 1;
  to.json = options.format == Format::kJson || (options.format == Format::kAuto && !terminal);
  const char* no_colour = std::getenv("NO_COLOR");
  to.colour = terminal && (no_colour == nullptr || *no_colour == '\0');
  to.journal = options.fd == STDERR_FILENO && !terminal && std::getenv("JOURNAL_STREAM") != nullptr;
  set_level(options.level);
}

void set_level(Level level) { current_level.store(level, std::memory_order_relaxed); }

Level level() { return current_level.load(std::memory_order_relaxed); }

void flush() {
  State& to = state();
  const std::scoped_lock lock(to.limit_mutex);
  report_suppressed(to, steady_now() + kWindow);
  to.logger->flush();
  if (to.pool) {  // a pool ends when its queue is empty; start over so that later lines are not lost
    auto sink = to.logger->sinks().front();
    to.logger = std::make_shared<spdlog::logger>("meshd", std::move(sink));
    to.pool.reset();
  }
}

std::uint64_t dropped() {
  State& to = state();
  const std::scoped_lock lock(to.limit_mutex);
  return to.pool ? to.pool->overrun_counter() : 0;
}

void write(Level at, std::string_view logger, std::string_view message, std::span<const Field> fields) {
  if (at < level()) return;
  const Record record{wall_now(), at, logger, message, fields};
  const TimePoint now = steady_now();
  State& to = state();
  const std::scoped_lock lock(to.limit_mutex);
  if (now - to.last_report >= kWindow) report_suppressed(to, now);
  if (to.limit.admit(record, now)) emit(to, record);
}

std::string format_json(const Record& record) {
  std::string line = R"({"time":")" + format_rfc3339_nanoseconds(record.time) + R"(","level":")";
  line += to_string(record.level);
  line += R"(","msg":)";
  append_json_string(line, record.message);
  line += R"(,"logger":)";
  append_json_string(line, record.logger);
  for (const Field& field : record.fields) {
    line += ',';
    append_json_string(line, field.key);
    line += ':';
    if (field.quoted) {
      append_json_string(line, field.value);
    } else {
      line += field.value;
    }
  }
  return line + '}';
}

std::string format_text(const Record& record, bool colour) {
  std::string line = format_rfc3339(record.time) + ' ';
  if (colour) line += colour_of(record.level);
  line += fmt::format("{:<5}", to_string(record.level));
  if (colour) line += "\033[0m";
  line += ' ';
  line += record.logger;
  line += ": ";
  line += record.message;
  for (const Field& field : record.fields) {
    line += ' ';
    line += field.key;
    line += '=';
    const bool plain = !field.value.empty() && field.value.find_first_of(" \"\\=\n\t\r\033") == std::string::npos;
    if (plain) {
      line += field.value;
    } else {
      append_json_string(line, field.value);
    }
  }
  return line;
}

bool RateLimit::admit(const Record& record, TimePoint now) {
  std::string key = fmt::format("{}\n{}\n{}", to_string(record.level), record.logger, record.message);
  if (entries_.size() >= kMessagesMax && !entries_.contains(key)) key = "(others)";
  const auto [found, added] = entries_.try_emplace(
      std::move(key), Entry{record.level, std::string(record.logger), std::string(record.message), now});
  Entry& entry = found->second;
  if (now - entry.window_start >= kWindow && entry.suppressed == 0) {
    entry.window_start = now;
    entry.admitted = 0;
  }
  if (entry.admitted < kBurst) {
    ++entry.admitted;
    return true;
  }
  ++entry.suppressed;
  return false;
}

std::vector<RateLimit::Suppressed> RateLimit::take_suppressed(TimePoint now) {
  std::vector<Suppressed> taken;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (now - entry->second.window_start < kWindow) {
      ++entry;
      continue;
    }
    const Entry& over = entry->second;
    if (over.suppressed > 0) taken.push_back({over.level, over.logger, over.message, over.suppressed});
    entry = entries_.erase(entry);
  }
  return taken;
}

}  // namespace mesh::base::log
