// SPDX-License-Identifier: Apache-2.0
// YAML text to Values. The only user of yaml-cpp, through its event interface: every value has its place, duplicate
// keys are seen (the library's own node tree drops them silently), aliases are copied within the limit on values.
#pragma once

#include <cstddef>
#include <optional>

#include "discovery/value.hpp"

namespace mesh::discovery {

/// YAML is for files that people write: parsing it takes ten times the time and memory of JSON.
inline constexpr std::size_t kMaxYamlBytes = 4 << 20;

/// The one document of `text`. Nothing if there were errors, which are in `findings`; a file without any content is
/// one.
std::optional<Value> read_yaml(const Document& document, std::string_view text, Findings& findings);

}  // namespace mesh::discovery
