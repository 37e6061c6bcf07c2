// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mesh::base {

/// The name among `known` that somebody who typed `text` probably meant (Damerau-Levenshtein distance of at most a
/// third of its length, or one being the start of the other), or "" if none is near.
[[nodiscard]] std::string_view nearest_name(std::string_view text, std::span<const std::string_view> known);

/// "did you mean 'round_robin'?" or, if nothing is near, "use one of: a, b, c".
[[nodiscard]] std::string suggest_name(std::string_view text, std::span<const std::string_view> known);

}  // namespace mesh::base
