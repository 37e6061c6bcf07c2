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

/// The one document of `text`. Nothing if it could not be read to its end; a file without any content could not. A
/// duplicate key and a second document are in `findings` too, and what stands beside them is still told, so that all
/// mistakes can be reported at once: the document counts only if there are no findings.
std::optional<Value> read_yaml(const Document& document, std::string_view text, Findings& findings);

}  // namespace mesh::discovery
