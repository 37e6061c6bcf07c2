// SPDX-License-Identifier: Apache-2.0
#include "base/clock.hpp"

#include <fmt/format.h>

#include <ctime>

namespace mesh::base {

std::string format_rfc3339(WallTime time) {
  const auto since_epoch = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch - seconds).count();
  const std::time_t unix_seconds = seconds.count();
  std::tm parts{};
  gmtime_r(&unix_seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, millis);
}

std::string format_age(Duration age) {
  const double seconds = std::chrono::duration<double>(age).count();
  if (seconds < 10) return fmt::format("{:.1f}s", seconds < 0 ? 0.0 : seconds);
  const auto whole = static_cast<long long>(seconds);
  if (whole < 120) return fmt::format("{}s", whole);
  if (whole < 7200) return fmt::format("{}m{}s", whole / 60, whole % 60);
  if (whole < 172800) return fmt::format("{}h{}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d{}h", whole / 86400, whole / 3600 % 24);
}

}  // namespace mesh::base
