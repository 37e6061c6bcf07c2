// SPDX-License-Identifier: Apache-2.0
// Sockets of the agent that the hooks send connections to: bpf/include/mesh_listener.h.
#pragma once

#include "base/error.hpp"
#include "datapath/maps.hpp"

namespace mesh::datapath {

/// From now on, and until it is closed, the hooks take this socket for one of the agent's.
base::Result<void> mark_listener(const MapSet& maps, int fd);

}  // namespace mesh::datapath
