// SPDX-License-Identifier: Apache-2.0
#include "relay/identity.hpp"

#include <algorithm>

namespace mesh::relay {
namespace {

bool is_within(std::string_view cgroup, std::string_view folder) {
  if (folder == "/") return true;
  return cgroup.starts_with(folder) && (cgroup.size() == folder.size() || cgroup[folder.size()] == '/');
}

/// Nothing: it depends on what is not known of `owner`.
std::optional<bool> is_so(const IdentityRule& rule, const Owner& owner) {
  const bool wants_cgroup = !rule.cgroup.empty() || !rule.unit.empty();
  if (!wants_cgroup && !rule.uid) return false;  // that would be everybody
  if (!owner.cgroup.empty()) {
    if (!rule.cgroup.empty() && !is_within(owner.cgroup, rule.cgroup)) return false;
    if (!rule.unit.empty() && unit_of(owner.cgroup) != rule.unit) return false;
  }
  if (rule.uid && owner.uid && rule.uid != owner.uid) return false;
  if ((wants_cgroup && owner.cgroup.empty()) || (rule.uid && !owner.uid)) return std::nullopt;
  return true;
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
  const auto found = std::ranges::find_if(rules, [&](const IdentityRule& rule) { return is_so(rule, owner) != false; });
  if (found == rules.end() || !is_so(*found, owner)) return std::nullopt;
  return static_cast<std::size_t>(found - rules.begin());
}

std::string_view remedy_without_identity(const Owner& owner) {
  if (!owner.uid) return "it closed before it was asked who it is: let it stay until it is answered";
  if (owner.cgroup.empty()) {
    return "unless its cgroup is gone the relay does not see the host's cgroups: mount the host's /sys/fs/cgroup for "
           "it";
  }
  return "add its cgroup, unit or user to relay.identities";
}

}  // namespace mesh::relay
