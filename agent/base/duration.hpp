// SPDX-License-Identifier: Apache-2.0
// Durations as people write them in the configuration: "500ms", "5s", "1m30s", "2h".
#pragma once

#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::base {

/// One or more numbers with a unit (ns, us, ms, s, m, h, d), largest first or not: "1m30s" is 90 seconds. "0" needs no
/// unit; any other bare number is refused, since nobody can know what it meant. At most 10,000 days.
Result<Duration> parse_duration(std::string_view text);

/// The shortest text that parse_duration reads back to the same value: "1m30s", "1500ms" is "1s500ms", "0s".
std::string format_duration(Duration duration);

}  // namespace mesh::base
