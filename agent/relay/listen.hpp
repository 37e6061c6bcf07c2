// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::relay {

/// How soon the kernel finds that the other end of an idle connection is gone, and for how long it repeats what is not
/// acknowledged. Of both legs.
inline constexpr int kKeepaliveIdleSeconds = 60;
inline constexpr int kKeepaliveIntervalSeconds = 10;
inline constexpr int kKeepaliveProbes = 6;
inline constexpr int kUserTimeoutMs = 60'000;

/// A listening socket; [::] takes both families. What it accepts has keepalive, TCP_USER_TIMEOUT and no delay, because
/// Linux copies them from the listener.
base::Result<base::Fd> listen_on(const base::SocketAddress& address);

/// The same options for a socket that is to be connected.
void set_stream_options(int fd);

}  // namespace mesh::relay
