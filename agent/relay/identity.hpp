// SPDX-License-Identifier: Apache-2.0
// Which identity a connection of an application of this host has: decided by who made its socket, as the kernel says,
// and by the configuration; by nothing that the application says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tls/spiffe.hpp"

namespace mesh::relay {

/// Who made a socket.
struct Owner {
  std::string cgroup;                           ///< Below the mount: "/system.slice/shop.service"; empty: it is gone.
  std::optional<std::uint32_t> uid;             ///< Of this host; nothing: the process has closed the socket already.
  [[nodiscard]] std::string to_string() const;  ///< "cgroup /system.slice/shop.service, user 1000"
};

/// Sockets of whom have an identity: all that is set must be so.
struct IdentityRule {
  tls::SpiffeId id;
  std::string cgroup{};  ///< That one, and all below.
  std::string unit{};    ///< A unit of the system's manager: "shop.service".
  std::optional<std::uint32_t> uid{};
};

/// The first rule that is so for `owner`. None if before it is one that would be so with what is not known of `owner`:
/// else whoever closes in time would be taken for one of a wider rule.
std::optional<std::size_t> identify(std::span<const IdentityRule> rules, const Owner& owner);
/// What helps a client that has none.
std::string_view remedy_without_identity(const Owner& owner);

/// The unit of the system's manager that a cgroup is of: the first part of its path that is no slice. Units of a user's
/// manager are part of user@1000.service, whatever their user calls them. Empty: none.
std::string_view unit_of(std::string_view cgroup);

}  // namespace mesh::relay
