/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How two backends compare, for least_connections and latency. Pure arithmetic, compiled for BPF and for C++ (tests,
 * simulator).
 *
 * Two draws and a comparison, because what one node knows is old and partial: the best of all would draw every
 * connection of every node at once, the better of two can't (M. Mitzenmacher, "The Power of Two Choices in Randomized
 * Load Balancing", 2001). Both draws follow the weights, and what is compared is relative to them.
 */
#ifndef MESH_LOAD_H
#define MESH_LOAD_H

#include "mesh_abi.h"
#include "mesh_latency.h"

#define MESH_LOAD_OPEN_MAX 0xfffffu      /* more open connections, and more latency (17 s), count as so much: */
#define MESH_LOAD_LATENCY_MAX 0xfffffffu /* 28 + 20 + 16 bits of a weight are one product */

/* So many open connections a connect() that failed counts as, if none succeeded since: half of it every 4.3 s (2^32 ns). */
#define MESH_LOAD_FAILURE 16u
#define MESH_LOAD_FAILURES_MAX 0xfffu
#define MESH_LOAD_FAILURE_SHIFT 32u

struct mesh_load {
  __u64 open;    /* connections */
  __u64 latency; /* of mesh_latency_value(); 0: not known, or too long ago; a failure is in it */
  __u32 failing; /* what failures count as, in open connections: who refuses at once has none open, and is not idle */
  __u32 weight;
  __u32 backend_id; /* for explain; 0: nothing was compared */
  __u32 reserved;
};

/* A clock that lags behind the stamp says that it was just now. */
MESH_PURE __u32 mesh_load_failing(__u32 failures_in_row, __u64 last_failure_ns, __u64 now_ns) {
  const __u64 halvings = now_ns > last_failure_ns ? (now_ns - last_failure_ns) >> MESH_LOAD_FAILURE_SHIFT : 0;
  const __u32 failures = failures_in_row < MESH_LOAD_FAILURES_MAX ? failures_in_row : MESH_LOAD_FAILURES_MAX;
  return halvings < 32 ? failures * MESH_LOAD_FAILURE >> halvings : 0;
}

/* `closed` is read before `opened`, and never ahead of it. An id that is being given to another backend is 0 open. */
MESH_PURE void mesh_load_of(const struct mesh_backend_live *live, __u32 weight, __u64 now_ns, struct mesh_load *load) {
  const __u64 closed = *(const volatile __u64 *)&live->closed;
  const __u64 opened = *(const volatile __u64 *)&live->opened;
  load->open = opened > closed ? opened - closed : 0;
  load->latency = mesh_latency_value(*(const volatile __u64 *)&live->latency, now_ns);
  load->failing = mesh_load_failing(*(const volatile __u32 *)&live->failures_in_row,
                                    *(const volatile __u64 *)&live->last_failure_ns, now_ns);
  load->weight = weight ? weight : 1;
}

/* The column of the second draw from `count` > 1: each but the first, alike. */
MESH_PURE __u32 mesh_other_column(__u32 column, __u32 random, __u32 count) {
  const __u32 other = column + 1 + (__u32)(((__u64)random * (count - 1)) >> 32);
  return other < count ? other : other - count;
}

MESH_PURE __u64 mesh_load_cost(__u64 latency, __u64 open, __u32 other_weight) {
  const __u64 factor = open < MESH_LOAD_OPEN_MAX ? open + 1 : MESH_LOAD_OPEN_MAX;
  return (latency < MESH_LOAD_LATENCY_MAX ? latency : MESH_LOAD_LATENCY_MAX) * factor * other_weight;
}

/*
 * Is the second the one to take? Not if they are alike. By latency, a backend of which nothing is known gets one
 * connection; as long as that is all there is to learn from, it counts as fast as the other one.
 */
MESH_PURE int mesh_second_is_better(__u8 algorithm, const struct mesh_load *first, const struct mesh_load *second) {
  if (algorithm != MESH_LATENCY || (!first->latency && !second->latency))
    return mesh_load_cost(1, second->open + second->failing, first->weight) <
           mesh_load_cost(1, first->open + first->failing, second->weight);
  if (!first->latency && !first->open) return 0;
  if (!second->latency && !second->open) return 1;
  return mesh_load_cost(second->latency ? second->latency : first->latency, second->open, first->weight) <
         mesh_load_cost(first->latency ? first->latency : second->latency, first->open, second->weight);
}

#endif /* MESH_LOAD_H */
