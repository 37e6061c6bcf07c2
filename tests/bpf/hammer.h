/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the I2 test and its readers (hammer.bpf.c) tell each other. */
#ifndef MESH_HAMMER_H
#define MESH_HAMMER_H

#include "mesh_abi.h"

struct hammer {
  struct mesh_frontend_key frontend;
  __u32 mark;  /* of this service: each byte of its backends' addresses */
  __u32 turns; /* reads per call */
  __u32 reserved;
  __u64 picks;
  __u64 torn;    /* parts of two records */
  __u64 foreign; /* another service's record */
  __u64 refused;
};

/* A service record as a hash element that is replaced as a whole. */
struct hammer_naive {
  __u8 address[4];
  __u8 more[28];
};

#endif /* MESH_HAMMER_H */
