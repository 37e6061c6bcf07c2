/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a loader tells the programs once, before they are verified. The object is read-only data, so the verifier knows
 * the values and removes the branches that this kernel can't run. Compiled by both worlds: the loader finds the layout
 * of an embedded program image here before it loads it.
 */
#ifndef MESH_CONFIG_H
#define MESH_CONFIG_H

#include "mesh_abi.h"

struct mesh_config {
  __u32 magic; /* MESH_LAYOUT_*: filled at compile time */
  __u16 layout_major;
  __u16 layout_minor;
  __u32 live_shard_mask;   /* shards of service_live - 1 */
  __u8 has_retval;         /* bpf_set_retval and bpf_get_retval: Linux 5.18. Without: refusals are EPERM */
  __u8 has_mptcp;          /* bpf_skc_to_mptcp_sock: Linux 5.19. Without: MPTCP sockets get no owner record */
  __u8 has_kernel_context; /* bpf_cast_to_kern_ctx, bpf_rdonly_cast: Linux 6.2. Without: has_kernel_read */
  __u8 has_kernel_read;    /* bpf_probe_read_kernel. Without both: closing any socket costs a cookie, no counters */
  __u32 owner_mask;        /* slots of owner - 1 */
  __u32 owner_prev_mask_a; /* of owner_prev_a and _b, while records are moved */
  __u32 owner_prev_mask_b;
};

#define MESH_CONFIG_SECTION ".rodata.mesh"

#ifdef __bpf__
extern const volatile struct mesh_config mesh_config;
#endif

#endif /* MESH_CONFIG_H */
