// SPDX-License-Identifier: Apache-2.0
// Time as others write it.
#pragma once

#include <optional>
#include <string_view>

#include "base/clock.hpp"

namespace mesh::base {

/// RFC 3339, of any offset, to whole seconds; years 1970 to 2200. Nothing: it is none.
std::optional<WallTime> parse_rfc3339(std::string_view text);

}  // namespace mesh::base
