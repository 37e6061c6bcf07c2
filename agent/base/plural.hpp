// SPDX-License-Identifier: Apache-2.0
// Numbers of things in sentences.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mesh::base {

/// "1 service", "2 services": for nouns that take an s.
inline std::string counted(std::uint64_t count, std::string_view noun) {
  return std::to_string(count) + ' ' + std::string(noun) + (count == 1 ? "" : "s");
}

}  // namespace mesh::base
