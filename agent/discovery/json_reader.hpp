// SPDX-License-Identifier: Apache-2.0
// JSON text to Values, streaming: the elements of top-level lists go to the sink one by one, so that a file of 10,000
// services needs memory for its text and one service.
#pragma once

#include <cstddef>
#include <optional>

#include "discovery/value.hpp"

namespace mesh::discovery {

inline constexpr std::size_t kMaxJsonBytes = 256u << 20;  ///< 100,000 services of 10 endpoints are 70 MB.

/// What is left of the document after the sink took the elements of its top-level lists. Nothing if it could not be
/// read to its end; as with YAML it counts only if there are no `findings`: a duplicate key is one. `document` must
/// have been made with `text`.
std::optional<Value> read_json(const Document& document, std::string_view text, ValueBuilder::Sink sink,
                               Findings& findings);

}  // namespace mesh::discovery
