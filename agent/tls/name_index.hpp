// SPDX-License-Identifier: Apache-2.0
// What is meant by the server name a client asks for: the exact name, else the wildcard above it. Which certificate to
// show and where to route are chosen by the same rule.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/error.hpp"

namespace mesh::tls {

/// Lower case, without a dot at its end: as names are compared.
std::string normal_name(std::string_view name);

class NameIndex {
 public:
  /// `pattern`: "shop.example.com", or "*.example.com" for one label below it. Says what it was added for first
  /// (`value` or, if the pattern stands already, that one's). kInvalid if it is no such pattern.
  base::Result<std::size_t> add(std::string_view pattern, std::size_t value);
  /// `name` as normal_name() makes it.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Map = std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>>;
  Map exact_;
  Map below_;  ///< "example.com" for "*.example.com"
};

}  // namespace mesh::tls
