// SPDX-License-Identifier: Apache-2.0
// IP addresses as the kernel tables hold them: 16 bytes, network order, IPv4 as v4-mapped (::ffff:a.b.c.d, RFC 4291
// section 2.5.5.2). One representation for both families keeps one code path from the config file to connect().
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mesh::base {

struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};  ///< Network order; IPv4 is v4-mapped.

  [[nodiscard]] bool is_v4() const;
  [[nodiscard]] bool is_unspecified() const;  ///< 0.0.0.0 or ::
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const IpAddress&) const = default;

  /// From text: "10.0.0.1", "fd00::1". Zones ("%eth0") and names are refused.
  static Result<IpAddress> parse(std::string_view text);
};

struct SocketAddress {
  IpAddress ip;
  std::uint16_t port = 0;  ///< Host order; 0 only where a comment says so.

  [[nodiscard]] std::string to_string() const;  ///< "10.0.0.1:80", "[fd00::1]:80"
  auto operator<=>(const SocketAddress&) const = default;

  /// From "A.B.C.D:PORT" or "[V6]:PORT", port 1 to 65535.
  static Result<SocketAddress> parse(std::string_view text);
  static SocketAddress from_sockaddr(const sockaddr_storage& storage);

  /// Fills a sockaddr_in for IPv4 and a sockaddr_in6 for IPv6; returns its length.
  socklen_t to_sockaddr(sockaddr_storage& storage) const;
};

}  // namespace mesh::base

template <>
struct std::hash<mesh::base::IpAddress> {
  std::size_t operator()(const mesh::base::IpAddress& ip) const noexcept {
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(ip.bytes.data()), ip.bytes.size()});
  }
};

template <>
struct std::hash<mesh::base::SocketAddress> {
  std::size_t operator()(const mesh::base::SocketAddress& address) const noexcept {
    return std::hash<mesh::base::IpAddress>{}(address.ip) * 31 + address.port;
  }
};
