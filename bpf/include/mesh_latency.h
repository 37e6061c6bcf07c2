/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Peak EWMA of connection times: rises at once, falls by half in MESH_LATENCY_HALF_LIFE_MS, so that a backend that got
 * no connection for a while is tried again. Pure arithmetic, compiled for BPF and for C++ (tests, simulator).
 *
 * State: value in units of 64 ns << 32 | time of the last change in ms (CLOCK_MONOTONIC, modulo 2^32), in one word that
 * is stored at once; two writers at a time lose one sample, nothing else. 0: nothing known yet.
 */
#ifndef MESH_LATENCY_H
#define MESH_LATENCY_H

#include "mesh_abi.h"

#ifdef __cplusplus
#define MESH_PURE inline
#else
#define MESH_PURE static __attribute__((always_inline)) inline
#endif

#define MESH_LATENCY_HALF_LIFE_MS 4000u
#define MESH_LATENCY_UNIT_NS 64ull
#define MESH_LATENCY_CLOCK_LAG_MS 100u         /* a coarse clock reads earlier than the one that made the stamp */
#define MESH_LATENCY_SAMPLE_MAX_US 10000000ull /* connections that live longer say nothing about their backend */
#define MESH_LATENCY_FAILURE_US 1000000ull     /* a failed connect() counts as one that took this long */

/* 0 for 1 us, 1 for 2 to 3, 2 for 4 to 7, ... at most the last bucket: a latency below 2^(i+1) us. */
MESH_PURE __u32 mesh_latency_bucket(__u32 us) {
  __u32 bucket = 0;
  for (__u32 i = 0; i < MESH_LATENCY_BUCKETS - 1; i++) {
    us >>= 1;
    if (us) bucket = i + 1;
  }
  return bucket;
}

MESH_PURE int mesh_latency_counts(__u64 duration_us) { return duration_us <= MESH_LATENCY_SAMPLE_MAX_US; }

/* The value now, in units; 0: unknown. Halved for each half-life, linear in between. */
MESH_PURE __u64 mesh_latency_value(__u64 state, __u64 now_ns) {
  const __u32 now_ms = (__u32)(now_ns / 1000000ull);
  const __u32 since_ms = now_ms - (__u32)state;
  const __u32 elapsed_ms = since_ms > 0xffffffff - MESH_LATENCY_CLOCK_LAG_MS ? 0 : since_ms;
  const __u32 halvings = elapsed_ms / MESH_LATENCY_HALF_LIFE_MS;
  if (!state || halvings > 31) return 0;
  const __u64 value = (state >> 32) >> halvings;
  return value - value * (elapsed_ms % MESH_LATENCY_HALF_LIFE_MS) / (2 * MESH_LATENCY_HALF_LIFE_MS);
}

MESH_PURE __u64 mesh_latency_state(__u64 value, __u64 now_ns) {
  const __u64 most = 0xffffffffull;
  return (value > most ? most : value) << 32 | (__u32)(now_ns / 1000000ull);
}

/* A higher sample is taken at once, a lower one by an eighth. */
MESH_PURE __u64 mesh_latency_sample(__u64 state, __u64 duration_us, __u64 now_ns) {
  const __u64 value = mesh_latency_value(state, now_ns);
  const __u64 sample = duration_us * 1000ull / MESH_LATENCY_UNIT_NS;
  return mesh_latency_state(sample >= value ? sample : value - (value - sample) / 8, now_ns);
}

/* A failure is a sample of MESH_LATENCY_FAILURE_US, and doubles a value that is higher already. */
MESH_PURE __u64 mesh_latency_failure(__u64 state, __u64 now_ns) {
  const __u64 value = mesh_latency_value(state, now_ns);
  const __u64 least = MESH_LATENCY_FAILURE_US * 1000ull / MESH_LATENCY_UNIT_NS;
  return mesh_latency_state(2 * value > least ? 2 * value : least, now_ns);
}

#endif /* MESH_LATENCY_H */
