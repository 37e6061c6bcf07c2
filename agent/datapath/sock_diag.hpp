// SPDX-License-Identifier: Apache-2.0
// sock_diag(7): lists the sockets of the calling thread's network namespace, says what the kernel counted of them, and
// destroys some. Every socket that is listed is copied to this process, about 1 us each. To destroy it is the slow way;
// Linux 4.9 (CONFIG_INET_DIAG_DESTROY) has it.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/address.hpp"
#include "base/error.hpp"

namespace mesh::datapath {

struct DiagSocket {
  std::uint64_t cookie = 0;
  base::SocketAddress peer;
};

/// Destroys the connected sockets of `protocol` (IPPROTO_TCP, half-open ones too, or IPPROTO_UDP) that `wanted` picks,
/// IPv4 and IPv6, and tells `destroyed` how it went. Errors: of the netlink socket, or the listing.
base::Result<void> destroy_sockets(std::uint8_t protocol, const std::function<bool(const DiagSocket&)>& wanted,
                                   const std::function<void(const DiagSocket&, bool ok)>& destroyed);

/// What the kernel's socket says of itself.
struct LiveSocket {
  std::uint8_t state = 0;  ///< TCP_ESTABLISHED, ...
  base::SocketAddress local;
  std::uint64_t bytes_out = 0;  ///< Payload that the peer has acknowledged.
  std::uint64_t bytes_in = 0;
  std::uint32_t srtt_us = 0;  ///< 0: none measured yet.
  std::uint32_t retransmits = 0;
};
using VisitSocket = std::function<void(std::uint64_t cookie, const LiveSocket& socket)>;

/// All TCP sockets with a peer, IPv4 and IPv6. A socket that is closed at both ends, or never connected, is not listed.
base::Result<void> read_tcp_sockets(const VisitSocket& visit);

/// "established", "syn_sent", "close_wait", ...; "closed" for what is not listed.
std::string_view tcp_state_name(std::uint8_t state);

}  // namespace mesh::datapath
