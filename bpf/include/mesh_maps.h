/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map, declared once. maps.bpf.c defines them (MESH_DEFINE_MAPS), the other program files refer to them.
 *
 * The sizes here are placeholders: the loader sets them from TableSizes (agent/datapath/map_store.hpp), and the agent
 * finds a map by the name it has here. Arrays that the agent writes are mmapable, so that an update is a plain store
 * and a dump needs no system call. Hashes are preallocated: no allocation in connect(), and what is full is full by a
 * number that somebody configured.
 */
#ifndef MESH_MAPS_H
#define MESH_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "mesh_abi.h"
#include "mesh_reasons.h"

#ifdef MESH_DEFINE_MAPS
#define MESH_MAP
#else
#define MESH_MAP extern
#endif

#define MESH_ARRAY(name, value_type)   \
  MESH_MAP struct {                    \
    __uint(type, BPF_MAP_TYPE_ARRAY);  \
    __uint(map_flags, BPF_F_MMAPABLE); \
    __uint(max_entries, 1);            \
    __type(key, __u32);                \
    __type(value, value_type);         \
  } name SEC(".maps")

#define MESH_HASH(name, key_type, value_type) \
  MESH_MAP struct {                           \
    __uint(type, BPF_MAP_TYPE_HASH);          \
    __uint(max_entries, 1);                   \
    __type(key, key_type);                    \
    __type(value, value_type);                \
  } name SEC(".maps")

MESH_ARRAY(control, struct mesh_control);
MESH_HASH(frontends, struct mesh_frontend_key, __u32);
MESH_ARRAY(services, struct mesh_service);
MESH_ARRAY(service_state, __u64);
MESH_ARRAY(ranges, struct mesh_range);
MESH_ARRAY(slots, struct mesh_slot);
MESH_ARRAY(backends, struct mesh_backend);
MESH_ARRAY(service_live, struct mesh_service_live);
MESH_ARRAY(backend_live, struct mesh_backend_live);
MESH_ARRAY(backend_outcomes, struct mesh_backend_outcomes);
MESH_ARRAY(service_latency, struct mesh_service_latency);
MESH_ARRAY(owner, struct mesh_owner); /* by socket cookie: mesh_owner.h */
MESH_HASH(affinity, struct mesh_affinity_key, struct mesh_affinity);

/* Only during a migration: the owner maps of the sets that are being left; see release.bpf.c. */
MESH_ARRAY(owner_prev_a, struct mesh_owner);
MESH_ARRAY(owner_prev_b, struct mesh_owner);

/* Filled for one pass of kill.bpf.c and emptied after it; nothing in the way of a connection reads it. */
MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, MESH_DOOMED_MAX);
  __type(key, __u64);
  __type(value, struct mesh_doomed);
} doomed SEC(".maps");

/* Of guard.bpf.c, whose link alone keeps them when the agent goes; the next agent makes new ones. Only the agent adds
 * elements. */
MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, MESH_GUARDED_MAX);
  __type(key, struct mesh_guard_key);
  __type(value, struct mesh_guarded);
} guarded SEC(".maps");

MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, MESH_GUARD_SERVICES_MAX);
  __type(key, __u32);
  __type(value, struct mesh_guard_counts);
} guard_counts SEC(".maps");

MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct mesh_udp_peers);
} udp_peers SEC(".maps");

MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 22);
} events SEC(".maps");

/* On an MPTCP socket: the cookie of the subflow that was connected, by which `owner` has the connection's record. */
MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u64);
} mptcp_owner SEC(".maps");

/* On the agent's own listening sockets: mesh_listener.h. */
MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} listeners SEC(".maps");

MESH_MAP struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, MESH_REASONS_MAX);
  __type(key, __u32);
  __type(value, __u64);
} reasons SEC(".maps");

#endif /* MESH_MAPS_H */
