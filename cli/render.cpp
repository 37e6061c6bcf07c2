// SPDX-License-Identifier: Apache-2.0
#include "cli/render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <clocale>
#include <cmath>
#include <ctime>
#include <cwchar>

namespace mesh::cli {
namespace {

struct CodePoint {
  char32_t value = 0xfffd;
  std::size_t bytes = 1;
  bool valid = false;
};

CodePoint decode_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {};
  char32_t value = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3fU);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length, true};
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789.,%- ") == std::string_view::npos &&
         text.find_first_of("0123456789") != std::string_view::npos;
}

bool yaml_needs_quotes(std::string_view text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ') return true;
  constexpr std::array<std::string_view, 11> kReserved = {"null", "true", "false", "yes", "no", "on",
                                                          "off",  "y",    "n",     "~",   "-"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (std::find(kReserved.begin(), kReserved.end(), lower) != kReserved.end()) return true;
  double number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc{}) return true;  // 1, 1.5, 12:30
  if (std::string_view("-?:,[]{}#&*!|>'\"%@`.+").find(text.front()) != std::string_view::npos) return true;
  return text.find(": ") != std::string_view::npos || text.find(" #") != std::string_view::npos || text.back() == ':' ||
         std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string yaml_scalar(const api::Json& json) {
  if (json.is_string() && !yaml_needs_quotes(json.get_ref<const std::string&>())) return json.get<std::string>();
  return api::detail::dump(json);  // a JSON scalar is a YAML scalar
}

void append_yaml(std::string& out, const api::Json& json, std::size_t indent, bool in_list) {
  const std::string margin(indent, ' ');
  bool first = true;
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      if (!(in_list && first)) out += margin;
      first = false;
      out += yaml_scalar(key) + ":";
      if (value.is_structured() && !value.empty()) {
        out += '\n';
        append_yaml(out, value, value.is_array() ? indent : indent + 2, false);
      } else {
        out += ' ' + (value.is_structured() ? value.dump() : yaml_scalar(value)) + '\n';
      }
    }
  } else {
    for (const auto& value : json) {
      out += margin + "- ";
      if (value.is_object() && !value.empty()) {
        append_yaml(out, value, indent + 2, true);
      } else if (value.is_array() && !value.empty()) {
        out.pop_back();
        out += '\n';
        append_yaml(out, value, indent + 2, false);
      } else {
        out += (value.is_structured() ? value.dump() : yaml_scalar(value)) + '\n';
      }
    }
  }
}

}  // namespace

std::string paint(const Style& style, Colour colour, std::string_view text) {
  if (!style.colour || colour == Colour::kNone || text.empty()) return std::string(text);
  constexpr std::array<std::string_view, 6> kCodes = {"", "32", "33", "31", "1", "2"};
  return fmt::format("\033[{}m{}\033[0m", kCodes[static_cast<std::size_t>(colour)], text);
}

Colour colour_of_state(std::string_view state) {
  for (const std::string_view good : {"ok", "up", "healthy", "synced", "eligible", "active", "balanced", "yes"}) {
    if (state == good) return Colour::kGreen;
  }
  for (const std::string_view bad : {"fail", "failed", "down", "probe_down", "refused", "agent_down", "no"}) {
    if (state == bad) return Colour::kRed;
  }
  return Colour::kYellow;
}

std::size_t display_width(std::string_view text) {
  static const bool utf8 = std::setlocale(LC_CTYPE, "C.UTF-8") != nullptr;  // for wcwidth
  std::size_t width = 0;
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    text.remove_prefix(point.bytes);
    const int columns = utf8 ? ::wcwidth(static_cast<wchar_t>(point.value)) : 1;
    width += columns < 0 ? 1 : static_cast<std::size_t>(columns);
  }
  return width;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    const bool control = point.value < 0x20 || (point.value >= 0x7f && point.value < 0xa0) ||
                         (point.value >= 0x202a && point.value <= 0x202e) ||  // these reorder what a terminal shows
                         (point.value >= 0x2066 && point.value <= 0x2069);
    if (!point.valid) {
      out += "\xef\xbf\xbd";
    } else if (control) {
      out += '?';
    } else {
      out += text.substr(0, point.bytes);
    }
    text.remove_prefix(point.bytes);
  }
  return out;
}

std::string Table::render(const Style& style) const {
  std::vector<std::size_t> widths(headers_.size(), 0);
  std::vector<bool> numeric(headers_.size(), false);
  std::vector<bool> textual(headers_.size(), false);
  if (style.headers) {
    for (std::size_t i = 0; i < headers_.size(); ++i) widths[i] = display_width(headers_[i]);
  }
  std::vector<std::vector<Cell>> rows = rows_;
  for (auto& row : rows) {
    row.resize(headers_.size(), Cell(""));
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i].text = printable(row[i].text);
      widths[i] = std::max(widths[i], display_width(row[i].text));
      if (row[i].text.empty() || row[i].text == "-") continue;
      (is_number(row[i].text) ? numeric : textual)[i] = true;
    }
  }
  std::string out;
  const auto line = [&](const std::vector<Cell>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - display_width(cells[i].text), ' ');
      const std::string painted = paint(style, cells[i].colour, cells[i].text);
      text += (i == 0 ? "" : "  ") + (numeric[i] && !textual[i] ? padding + painted : painted + padding);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + '\n';
  };
  if (style.headers) line({headers_.begin(), headers_.end()});
  for (const auto& row : rows) line(row);
  return out;
}

std::string to_pretty_json(const api::Json& json) {
  return json.dump(2, ' ', false, api::Json::error_handler_t::replace) + '\n';
}

std::string to_yaml(const api::Json& json) {
  if (!json.is_structured() || json.empty()) return (json.is_structured() ? json.dump() : yaml_scalar(json)) + '\n';
  std::string out;
  append_yaml(out, json, 0, false);
  return out;
}

std::string format_ago(const std::optional<double>& seconds) {
  if (!seconds) return "never";
  return base::format_age(std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(*seconds))) + " ago";
}

std::string format_age_s(double seconds) {
  return base::format_age(std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds)));
}

std::string format_us(const std::optional<std::uint32_t>& us) {
  if (!us) return "-";
  if (*us < 1000) return fmt::format("{}us", *us);
  const double ms = static_cast<double>(*us) / 1000;
  return ms < 1000 ? fmt::format("{:.1f}ms", ms) : fmt::format("{:.1f}s", ms / 1000);
}

std::string format_percent(double share) {
  const double percent = share * 100;
  if (percent != 0 && percent < 0.1) return "<0.1 %";
  const bool whole = std::abs(percent - std::round(percent)) < 0.05;
  return whole ? fmt::format("{:.0f} %", percent) : fmt::format("{:.1f} %", percent);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_time(std::string_view rfc3339, base::WallTime now) {
  std::tm parts{};
  const std::string text(rfc3339);
  const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (end == nullptr) return text;
  const std::time_t seconds = ::timegm(&parts);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  const auto apart = std::chrono::abs(now - base::WallTime(std::chrono::seconds(seconds)));
  std::array<char, 64> buffer{};
  const std::size_t length =
      std::strftime(buffer.data(), buffer.size(), apart > std::chrono::hours(24) ? "%F %T" : "%T", &local);
  return {buffer.data(), length};
}

}  // namespace mesh::cli
