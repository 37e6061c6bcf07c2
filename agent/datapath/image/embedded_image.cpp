// SPDX-License-Identifier: Apache-2.0
// Compiled once per image: MESH_SKELETON is the generated header, MESH_IMAGE the function that returns it.
#include "datapath/image.hpp"
#include "mesh_config.h"  // the skeleton has a member of this type

#include MESH_SKELETON

namespace mesh::datapath {

ProgramImage MESH_IMAGE() {
  std::size_t size = 0;
  const void* bytes = mesh_bpf__elf_bytes(&size);
  return {static_cast<const std::byte*>(bytes), size};
}

}  // namespace mesh::datapath
