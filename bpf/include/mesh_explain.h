/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What `meshctl explain` asks the real pick, and what it answers. Not pinned: both sides are of one build. */
#ifndef MESH_EXPLAIN_H
#define MESH_EXPLAIN_H

#include "mesh_load.h"

struct mesh_explain {
  /* in */
  struct mesh_frontend_key frontend;
  __u32 uid;
  __u64 netns_cookie;
  __u64 cgroup_id;
  __u8 source_addr[16]; /* the bound address, v4-mapped; all zero: not bound */
  /* out */
  __u32 service_id; /* 0: no service has this frontend */
  __u32 range_id;
  __u32 backend_id; /* 0: none; `reason` says why */
  __u32 backend_generation;
  __u8 backend_addr[16];
  __be16 backend_port_be;
  __u8 algorithm; /* 0: not known, the service has no table */
  __u8 hash_key;
  __u32 reason;      /* enum mesh_reason */
  __u32 by_affinity; /* 1: the client's earlier backend is kept */
  __u32 reserved;
  struct mesh_load compared[2];
};

#endif /* MESH_EXPLAIN_H */
