// SPDX-License-Identifier: Apache-2.0
// What meshctl prints: tables aligned by display width, JSON, YAML, and short texts for times and numbers. Text that
// came over the network (names, probe details) never reaches a terminal with its control characters.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"
#include "base/clock.hpp"

namespace mesh::cli {

enum class Output { kTable, kWide, kJson, kYaml };

enum class Colour { kNone, kGreen, kYellow, kRed, kBold, kDim };

struct Style {
  bool colour = false;  ///< stdout is a terminal and NO_COLOR is not set
  bool headers = true;
};

/// `text` in `colour`, if the style has colours.
std::string paint(const Style& style, Colour colour, std::string_view text);
/// Green for "ok", "up", "healthy" ..., red for "failed", "down" ..., yellow in between.
Colour colour_of_state(std::string_view state);

struct Cell {
  std::string text;
  Colour colour = Colour::kNone;
  Cell(std::string t, Colour c = Colour::kNone) : text(std::move(t)), colour(c) {}
  Cell(const char* t) : text(t) {}
};

class Table {
 public:
  explicit Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// Columns two spaces apart, numbers right-aligned, no spaces at line ends.
  [[nodiscard]] std::string render(const Style& style) const;

 private:
  std::vector<std::string> headers_;
  std::vector<std::vector<Cell>> rows_;
};

/// Columns on a terminal; wide characters count two.
std::size_t display_width(std::string_view text);
/// Control characters become '?', broken UTF-8 U+FFFD.
std::string printable(std::string_view text);

std::string to_pretty_json(const api::Json& json);  ///< with a final newline
std::string to_yaml(const api::Json& json);

std::string format_ago(const std::optional<double>& seconds);   ///< "0.4s ago", "never"
std::string format_age_s(double seconds);                       ///< "3m20s"
std::string format_us(const std::optional<std::uint32_t>& us);  ///< "420us", "1.4ms", "2.1s", "-"
std::string format_percent(double share);                       ///< 0.333 to "33.3 %", 1 to "100 %"
std::string format_bytes(std::uint64_t bytes);                  ///< "4.0 MiB"
/// RFC 3339 to "12:04:31" in local time, with the date if it is more than a day away; other text as it is.
std::string format_time(std::string_view rfc3339, base::WallTime now);

}  // namespace mesh::cli
