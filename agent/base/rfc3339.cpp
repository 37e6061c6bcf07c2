// SPDX-License-Identifier: Apache-2.0
#include "base/rfc3339.hpp"

#include <charconv>

namespace mesh::base {

std::optional<WallTime> parse_rfc3339(std::string_view text) {
  const auto number = [&](std::size_t at, std::size_t size, int most) -> std::optional<int> {
    int result = 0;
    if (at + size > text.size()) return std::nullopt;
    const char* end = text.data() + at + size;
    const auto [stop, problem] = std::from_chars(text.data() + at, end, result);
    if (problem != std::errc{} || stop != end || result < 0 || result > most) return std::nullopt;
    return result;
  };
  if (text.size() < 20 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') || text[13] != ':' ||
      text[16] != ':') {
    return std::nullopt;
  }
  const auto year = number(0, 4, 2200), month = number(5, 2, 12), day = number(8, 2, 31), hour = number(11, 2, 23),
             minute = number(14, 2, 59), second = number(17, 2, 60);
  if (!year || !month || !day || !hour || !minute || !second || *year < 1970) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  std::size_t at = 19;
  if (text[at] == '.') {
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) continue;
  }
  int offset_minutes = 0;
  if (at + 1 == text.size() && (text[at] == 'Z' || text[at] == 'z')) {
    offset_minutes = 0;
  } else if (at + 6 == text.size() && (text[at] == '+' || text[at] == '-') && text[at + 3] == ':') {
    const auto hours = number(at + 1, 2, 23), minutes = number(at + 4, 2, 59);
    if (!hours || !minutes) return std::nullopt;
    offset_minutes = (*hours * 60 + *minutes) * (text[at] == '-' ? -1 : 1);
  } else {
    return std::nullopt;
  }
  return std::chrono::sys_days(date) + std::chrono::hours(*hour) + std::chrono::minutes(*minute - offset_minutes) +
         std::chrono::seconds(*second);
}

}  // namespace mesh::base
