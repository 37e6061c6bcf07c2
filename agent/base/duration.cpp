// SPDX-License-Identifier: Apache-2.0
#include "base/duration.hpp"

#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

namespace mesh::base {
namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 7> kUnits = {{{"d", 86'400'000'000'000},
                                                                              {"h", 3'600'000'000'000},
                                                                              {"m", 60'000'000'000},
                                                                              {"s", 1'000'000'000},
                                                                              {"ms", 1'000'000},
                                                                              {"us", 1'000},
                                                                              {"ns", 1}}};
constexpr std::int64_t kMaxNanoseconds = 10'000 * kUnits[0].second;

std::int64_t unit_of(std::string_view text) {
  for (const auto& [name, nanoseconds] : kUnits) {
    if (name == text) return nanoseconds;
  }
  return 0;
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const auto invalid = [&](std::string_view why, std::string_view remedy = "write it as 500ms, 5s or 1m30s") {
    return fail(ErrorKind::kInvalid, "'" + std::string(text) + "' is not a duration: " + std::string(why),
                std::string(remedy));
  };
  if (text == "0") return Duration{0};
  if (text.empty()) return invalid("it is empty");
  std::int64_t total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    std::int64_t number = 0;
    const auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (ec != std::errc{} || number < 0) return invalid("a whole number must stand here");
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    const std::size_t unit_size = std::min(rest.find_first_of("0123456789"), rest.size());
    const std::string_view unit = rest.substr(0, unit_size);
    if (unit.empty()) {
      return invalid("the unit is missing",
                     "write " + std::string(text) + "s for seconds, " + std::string(text) + "ms for milliseconds");
    }
    const std::int64_t nanoseconds = unit_of(unit);
    if (nanoseconds == 0)
      return invalid("unknown unit '" + std::string(unit) + "'", "units are ns, us, ms, s, m, h, d");
    if (number > (kMaxNanoseconds - total) / nanoseconds) return invalid("longer than 10000 days");
    total += number * nanoseconds;
    rest.remove_prefix(unit_size);
  }
  return Duration{total};
}

std::string format_duration(Duration duration) {
  if (duration.count() <= 0) return "0s";
  std::string text;
  std::int64_t rest = duration.count();
  for (const auto& [name, nanoseconds] : kUnits) {
    if (rest < nanoseconds) continue;
    text += std::to_string(rest / nanoseconds) + std::string(name);
    rest %= nanoseconds;
  }
  return text;
}

}  // namespace mesh::base
