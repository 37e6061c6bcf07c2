// SPDX-License-Identifier: Apache-2.0
// Time as a value that is passed in. Whatever decides takes `now`; only I/O shells ask a clock.
#pragma once

#include <chrono>
#include <string>

namespace mesh::base {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;  ///< CLOCK_MONOTONIC; for deadlines.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;   ///< For people, and across reboots.

[[nodiscard]] inline TimePoint steady_now() { return std::chrono::steady_clock::now(); }
[[nodiscard]] inline WallTime wall_now() { return std::chrono::system_clock::now(); }

/// RFC 3339 in UTC with milliseconds: "2026-11-20T12:04:31.042Z".
std::string format_rfc3339(WallTime time);

/// For people: "0.4s", "12s", "3m20s", "5h2m", "4d3h".
std::string format_age(Duration age);

}  // namespace mesh::base
