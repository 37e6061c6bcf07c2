// SPDX-License-Identifier: Apache-2.0
#include "datapath/listeners.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>

namespace mesh::datapath {

base::Result<void> mark_listener(const MapSet& maps, int fd) {
  const std::uint32_t ours = 1;
  if (::bpf_map_update_elem(maps.fd(Table::kListeners), &fd, &ours, BPF_ANY) == 0) return {};
  return base::fail_errno(errno, "mark a socket as the agent's own");
}

}  // namespace mesh::datapath
