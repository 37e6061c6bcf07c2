// SPDX-License-Identifier: Apache-2.0
// A shortcut for the usual change: one service in a file of many. Cutting a file into its elements costs a twentieth of
// parsing it, and an element whose bytes were parsed before needs no parser again.
//
// The cut is exact where it succeeds: `{"KEY": [ELEMENT, ...]}` with nothing else around, so the file is good if each
// ELEMENT is a good object. Anything unusual, and any error, goes through the real parser as a whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace mesh::discovery {

/// The elements as they stand in `text`, each from `{` to its `}`; nothing if the text has another shape.
std::optional<std::vector<std::string_view>> slice_elements(std::string_view text, std::string_view key);

/// Tells elements apart: 64 bits of hash and the size.
struct SliceHash {
  std::uint64_t hash = 0;
  std::size_t size = 0;
  explicit SliceHash(std::string_view slice) : hash(std::hash<std::string_view>{}(slice)), size(slice.size()) {}
  auto operator<=>(const SliceHash&) const = default;
};

}  // namespace mesh::discovery
