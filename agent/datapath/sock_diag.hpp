// SPDX-License-Identifier: Apache-2.0
// sock_diag(7): lists the sockets of the calling thread's network namespace and destroys some. Every socket that is
// listed is copied to this process, so it is the slow way; Linux 4.9 (CONFIG_INET_DIAG_DESTROY) has it.
#pragma once

#include <cstdint>
#include <functional>

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

}  // namespace mesh::datapath
