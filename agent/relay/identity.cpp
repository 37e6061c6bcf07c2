// SPDX-License-Identifier: Apache-2.0
#include "relay/identity.hpp"

#include <algorithm>

namespace mesh::relay {
namespace {

bool is_within(std::string_view cgroup, std::string_view folder) {
  if (folder == "/") return !cgroup.empty();
  return cgroup.starts_with(folder) && (cgroup.size() == folder.size() || cgroup[folder.size()] == '/');
}

bool is_so(const IdentityRule& rule, const Owner& owner) {
  if (rule.cgroup.empty() && rule.unit.empty() && !rule.uid) return false;  // that would be everybody
  return (rule.cgroup.empty() || is_within(owner.cgroup, rule.cgroup)) &&
         (rule.unit.empty() || unit_of(owner.cgroup) == rule.unit) && (!rule.uid || rule.uid == owner.uid);
}

}  // namespace

std::string Owner::to_string() const {
  return "cgroup " + (cgroup.empty() ? "unknown" : cgroup) + ", user " + (uid ? std::to_string(*uid) : "unknown");
}

std::string_view unit_of(std::string_view cgroup) {
  while (cgroup.starts_with('/')) {
    cgroup.remove_prefix(1);
    const std::string_view part = cgroup.substr(0, cgroup.find('/'));
    if (!part.ends_with(".slice")) return part;
    cgroup.remove_prefix(part.size());
  }
  return {};
}

std::optional<std::size_t> identify(std::span<const IdentityRule> rules, const Owner& owner) {
  const auto found = std::ranges::find_if(rules, [&](const IdentityRule& rule) { return is_so(rule, owner); });
  if (found == rules.end()) return std::nullopt;
  return static_cast<std::size_t>(found - rules.begin());
}

}  // namespace mesh::relay
