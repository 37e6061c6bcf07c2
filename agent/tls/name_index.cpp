// SPDX-License-Identifier: Apache-2.0
#include "tls/name_index.hpp"

#include <algorithm>

namespace mesh::tls {
namespace {

constexpr std::size_t kNameMax = 253;

bool is_host_name(std::string_view name) {
  if (name.empty() || name.size() > kNameMax || name.front() == '.' || name.back() == '.' || name.contains(".."))
    return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

}  // namespace

std::string normal_name(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string normal(name);
  for (char& c : normal) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return normal;
}

base::Result<std::size_t> NameIndex::add(std::string_view pattern, std::size_t value) {
  const std::string normal = normal_name(pattern);
  const bool wildcard = normal.starts_with("*.");
  const std::string_view name = std::string_view(normal).substr(wildcard ? 2 : 0);
  if (!is_host_name(name)) {
    return base::fail(base::ErrorKind::kInvalid, "use the server name '" + std::string(pattern) + "': it is none",
                      "write shop.example.com, or *.example.com for all names one label below it");
  }
  return (wildcard ? below_ : exact_).try_emplace(std::string(name), value).first->second;
}

std::optional<std::size_t> NameIndex::find(std::string_view name) const {
  if (const auto found = exact_.find(name); found != exact_.end()) return found->second;
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0) return std::nullopt;
  const auto found = below_.find(name.substr(dot + 1));
  return found == below_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace mesh::tls
