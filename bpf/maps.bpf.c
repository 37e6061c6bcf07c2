// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Where the maps and the configuration of mesh_maps.h and mesh_config.h live; every other program file refers to them. */
#define MESH_DEFINE_MAPS
#include "mesh_config.h"
#include "mesh_maps.h"

const volatile struct mesh_config mesh_config SEC(MESH_CONFIG_SECTION) = {
    .magic = MESH_LAYOUT_MAGIC,
    .layout_major = MESH_LAYOUT_MAJOR,
    .layout_minor = MESH_LAYOUT_MINOR,
};

char mesh_license[] SEC("license") = "Dual BSD/GPL";
