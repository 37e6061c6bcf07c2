// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.hpp"

namespace mesh::cli {

/// "90s", "10m", "1h30m", "2d": whole seconds, at least one.
base::Result<std::uint64_t> parse_duration_s(std::string_view text);

}  // namespace mesh::cli
