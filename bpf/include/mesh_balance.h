/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which backend: lookup, pick, session affinity. No context types: the hooks, the explain program and the tests run
 * the same code.
 *
 * A reader meets tables that are being replaced. It loads a service's state once (one u64) and from then on uses only
 * what that state names: a range, slots and backends which the agent does not reuse until every reader has gone (see
 * agent/datapath/plan.hpp). Each step checks that what it reads belongs to the service; if not, the whole is read
 * again once, and then refused and counted: never a backend of another service.
 */
#ifndef MESH_BALANCE_H
#define MESH_BALANCE_H

#include "mesh_config.h"
#include "mesh_load.h"
#include "mesh_maps.h"

#ifndef MESH_READ_WINDOW /* a test widens the time between two reads to provoke races */
#define MESH_READ_WINDOW()
#endif

#ifndef MESH_NOW_NS /* CLOCK_MONOTONIC, 1 to 10 ms late at a fraction of the price; syscall programs lack the helper */
#define MESH_NOW_NS() bpf_ktime_get_coarse_ns()
#endif

#define MESH_NS_PER_S 1000000000ll
#define MESH_READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define MESH_WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

enum mesh_choose_flags {
  MESH_CHOOSE_DRY = 1, /* explain: count nothing, move no cursor, remember nothing */
};

struct mesh_choice {
  __u8 addr[16];
  __be16 port_be;
  __u8 algorithm;
  __u8 hash_key;
  __u16 flags; /* MESH_RANGE_* */
  __u32 range_id;
  __u32 backend_id;
  __u32 backend_generation;
  __u32 listener;    /* MESH_BACKEND_LISTENER or _RELAY: a socket that may not be there; mesh_listener.h */
  __u32 by_affinity; /* the client's earlier backend was kept */
  __u32 compared[2]; /* the two draws of least_connections and latency; 0: none */
};

/* The value of a client's hash key; `context` is whatever the caller of mesh_choose() passed. */
typedef __u64 (*mesh_client_key)(void *context, __u8 hash_key);

static __always_inline void mesh_count(__u32 reason) {
  __u64 *count = bpf_map_lookup_elem(&reasons, &reason);
  if (count) __sync_fetch_and_add(count, 1); /* a hook may be preempted by another one on its CPU */
}

static __always_inline struct mesh_control *mesh_control_get(void) {
  const __u32 zero = 0;
  return bpf_map_lookup_elem(&control, &zero);
}

/* Is a pass-through deadline in force? The clock is read only when there is one. */
static __always_inline int mesh_passing(__u64 pass_until_ns) {
  return pass_until_ns && (pass_until_ns == MESH_FOREVER || bpf_ktime_get_ns() < pass_until_ns);
}

/* The mesh-wide switch; every hook that changes what an application sees asks it first. */
static __always_inline int mesh_switched_off(const struct mesh_control *control_entry) {
  return !control_entry || mesh_passing(MESH_READ_ONCE(control_entry->pass_until_ns));
}

static __always_inline struct mesh_service_live *mesh_live_of(__u32 service_id) {
  const __u32 mask = mesh_config.live_shard_mask;
  __u32 index = service_id * (mask + 1);
  if (mask) index += bpf_get_smp_processor_id() & mask;
  return bpf_map_lookup_elem(&service_live, &index);
}

#define MESH_COUNT_SERVICE(service_id, field)                        \
  do {                                                               \
    struct mesh_service_live *live_entry = mesh_live_of(service_id); \
    if (live_entry) __sync_fetch_and_add(&live_entry->field, 1);     \
  } while (0)

static __always_inline int mesh_same_frontend(const struct mesh_frontend_key *a, const struct mesh_frontend_key *b) {
  const __u32 *x = (const __u32 *)a;
  const __u32 *y = (const __u32 *)b;
  return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/*
 * The service of a frontend, or 0. The element of a hash may be recycled under a reader, so the id counts only if the
 * service itself says that this frontend is its own.
 */
static __always_inline __u32 mesh_service_of(const struct mesh_frontend_key *key, struct mesh_service **service) {
  const __u32 *found = bpf_map_lookup_elem(&frontends, key);
  if (!found) return 0;
  const __u32 service_id = MESH_READ_ONCE(*found);
  *service = bpf_map_lookup_elem(&services, &service_id);
  if (!*service || !mesh_same_frontend(&(*service)->frontend, key)) {
    mesh_count(MESH_REASON_FOREIGN_FRONTEND);
    return 0;
  }
  return service_id;
}

/* The same function as mesh::base::mix64. */
static __always_inline __u64 mesh_mix64(__u64 x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  x ^= x >> 31;
  return x;
}

/* The client key of a bound address, as two words in memory order; 0 for "not bound". */
static __always_inline __u64 mesh_address_key(__u64 high, __u64 low) {
  if (!high && !low) return 0;
  return mesh_mix64(high) ^ mesh_mix64(low + 1);
}

/* Maps a 32-bit number to [0, count) in equal shares (multiply-shift). */
static __always_inline __u32 mesh_scale(__u32 number, __u32 count) { return ((__u64)number * count) >> 32; }

/* Takes a backend for the service if it is the service's. Fills `choice`. */
static __always_inline int mesh_take_backend(__u32 service_id, __u32 backend_id, struct mesh_choice *choice) {
  const struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend || !backend_id || backend->service_id != service_id) return 0;
  __builtin_memcpy(choice->addr, backend->addr, sizeof(choice->addr));
  choice->port_be = backend->port_be;
  choice->backend_id = backend_id;
  choice->backend_generation = backend->generation;
  choice->listener = backend->flags & (MESH_BACKEND_LISTENER | MESH_BACKEND_RELAY);
  return 1;
}

/* A backend somebody remembers: still the same one, of this service, and open for new connections? */
static __always_inline int mesh_take_remembered(__u32 service_id, __u32 backend_id, __u32 generation,
                                                struct mesh_choice *choice) {
  const struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend || !(MESH_READ_ONCE(backend->flags) & MESH_BACKEND_USABLE) || backend->generation != generation)
    return 0;
  return mesh_take_backend(service_id, backend_id, choice);
}

static __always_inline int mesh_take_affinity(const struct mesh_affinity *entry, __u32 service_id, __u64 now_ns,
                                              __u32 timeout_s, struct mesh_choice *choice) {
  const __u64 backend = MESH_READ_ONCE(entry->backend);
  const __s64 idle_ns = now_ns - MESH_READ_ONCE(entry->last_used_ns);
  if (idle_ns >= timeout_s * MESH_NS_PER_S) return 0;
  return mesh_take_remembered(service_id, (__u32)backend, backend >> 32, choice);
}

static __always_inline void mesh_remember_affinity(const struct mesh_affinity_key *key, __u32 service_id, __u64 now_ns,
                                                   __u32 timeout_s, struct mesh_choice *choice) {
  const struct mesh_affinity fresh = {.last_used_ns = now_ns,
                                      .backend = (__u64)choice->backend_generation << 32 | choice->backend_id};
  struct mesh_affinity *entry = bpf_map_lookup_elem(&affinity, key);
  if (!entry) {
    const long error = bpf_map_update_elem(&affinity, key, &fresh, BPF_NOEXIST);
    if (!error) return;
    entry = bpf_map_lookup_elem(&affinity, key);
    if (!entry) {
      mesh_count(MESH_REASON_AFFINITY_FULL);
      return;
    }
    /* The client connected twice at once: both go where the first went. */
    if (mesh_take_affinity(entry, service_id, now_ns, timeout_s, choice)) return;
  }
  /* In place: replacing the element would recycle it under a reader of another client. */
  MESH_WRITE_ONCE(entry->backend, fresh.backend);
  MESH_WRITE_ONCE(entry->last_used_ns, now_ns);
}

/* The next value of the service's shared cursor. */
static __always_inline __u64 mesh_turn(__u32 service_id, __u32 flags) {
  const __u32 index = service_id * (mesh_config.live_shard_mask + 1);
  struct mesh_service_live *live = bpf_map_lookup_elem(&service_live, &index);
  if (!live) return 0;
  if (flags & MESH_CHOOSE_DRY) return MESH_READ_ONCE(live->cursor);
  return __sync_fetch_and_add(&live->cursor, 1);
}

/* Draws from a column of an alias table. */
static __always_inline int mesh_draw(__u32 service_id, const struct mesh_range *range, __u32 column,
                                     __u32 *backend_id) {
  __u32 index = range->base + 2 * column;
  const struct mesh_slot *entry = bpf_map_lookup_elem(&slots, &index);
  index++;
  const struct mesh_slot *alias = bpf_map_lookup_elem(&slots, &index);
  if (!entry || !alias) return MESH_REASON_BAD_RANGE;
  const __u32 threshold = alias->tag;
  const int take_first = threshold == 0xffffffff || bpf_get_prandom_u32() < threshold;
  *backend_id = take_first ? entry->backend_id : alias->backend_id;
  MESH_READ_WINDOW();
  return entry->tag == service_id ? MESH_REASON_NONE : MESH_REASON_STALE_SLOT;
}

/*
 * The second draw of least_connections and latency, and the comparison: functions of their own, so that the hooks stay
 * small. No caller's clock is read here: one body serves hooks and explain.
 */

/* Draws from a column other than the first: reason << 32 | backend id. */
__attribute__((weak, noinline)) __u64 mesh_draw_again(__u32 service_id, __u32 range_id, __u32 first_column) {
  __u32 backend_id = 0;
  const struct mesh_range *range = bpf_map_lookup_elem(&ranges, &range_id);
  if (!range) return (__u64)MESH_REASON_BAD_RANGE << 32;
  const __u32 column = mesh_other_column(first_column, bpf_get_prandom_u32(), range->count);
  return (__u64)mesh_draw(service_id, range, column, &backend_id) << 32 | backend_id;
}

/* Counters of an id that was given to another service meanwhile may mislead, no more. */
static __always_inline int mesh_look_up_load(__u32 backend_id, __u64 now_ns, struct mesh_load *load) {
  const struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  const struct mesh_backend_live *live = bpf_map_lookup_elem(&backend_live, &backend_id);
  if (!backend || !live) return 0;
  mesh_load_of(live, backend->weight, now_ns, load);
  return 1;
}

/* The better one of two backends, by id. */
__attribute__((weak, noinline)) __u32 mesh_better(__u32 algorithm, __u32 first_id, __u32 second_id, __u64 now_ns) {
  struct mesh_load first;
  struct mesh_load second;
  if (!mesh_look_up_load(first_id, now_ns, &first) || !mesh_look_up_load(second_id, now_ns, &second)) return first_id;
  return mesh_second_is_better(algorithm, &first, &second) ? second_id : first_id;
}

/* Picks from a range that has entries. */
static __always_inline int mesh_pick(__u32 service_id, const struct mesh_range *range, __u64 client, __u32 flags,
                                     struct mesh_choice *choice) {
  const __u32 count = range->count;
  const __u8 algorithm = range->algorithm;
  __u32 backend_id = 0;
  if (mesh_slots_per_entry(algorithm) == 2) {
    const __u32 column = mesh_scale(bpf_get_prandom_u32(), count);
    const int reason = mesh_draw(service_id, range, column, &backend_id);
    if (reason != MESH_REASON_NONE) return reason;
    if (algorithm != MESH_WEIGHTED_RANDOM && count > 1) {
      const __u64 again = mesh_draw_again(service_id, choice->range_id, column);
      if (again >> 32 != MESH_REASON_NONE) return again >> 32;
      choice->compared[0] = backend_id;
      choice->compared[1] = (__u32)again;
      if (backend_id != (__u32)again) backend_id = mesh_better(algorithm, backend_id, (__u32)again, MESH_NOW_NS());
    }
  } else {
    __u32 index = range->base;
    if (algorithm == MESH_ROUND_ROBIN)
      index += mesh_turn(service_id, flags) % count;
    else
      index += mesh_scale(mesh_mix64(client ^ range->seed) >> 32, count);
    const struct mesh_slot *slot = bpf_map_lookup_elem(&slots, &index);
    if (!slot) return MESH_REASON_BAD_RANGE;
    backend_id = slot->backend_id;
    MESH_READ_WINDOW();
    if (slot->tag != service_id) return MESH_REASON_STALE_SLOT;
  }
  return mesh_take_backend(service_id, backend_id, choice) ? MESH_REASON_NONE : MESH_REASON_STALE_SLOT;
}

static __always_inline int mesh_choose_once(void *context, mesh_client_key client_key, __u32 service_id, __u32 flags,
                                            struct mesh_choice *choice) {
  const __u64 *state = bpf_map_lookup_elem(&service_state, &service_id);
  if (!state) return MESH_REASON_BAD_RANGE;
  const __u32 range_id = (__u32)MESH_READ_ONCE(*state); /* the one load: all that follows hangs on it */
  if (!range_id) return MESH_REASON_STATE_ZERO;
  choice->range_id = range_id;
  if (range_id == MESH_RANGE_EMPTY) return MESH_REASON_NO_BACKEND;
  MESH_READ_WINDOW();
  const struct mesh_range *range = bpf_map_lookup_elem(&ranges, &range_id);
  if (!range) return MESH_REASON_BAD_RANGE;
  if (range->service_id != service_id) return MESH_REASON_STALE_SLOT;
  choice->algorithm = range->algorithm;
  choice->hash_key = range->hash_key;
  choice->flags = range->flags;
  if (!range->count) return MESH_REASON_NO_BACKEND;

  const __u32 timeout_s = range->affinity_timeout_s;
  __u64 client = 0;
  if (timeout_s || range->algorithm == MESH_MAGLEV || range->algorithm == MESH_SOURCE_HASH)
    client = client_key(context, range->hash_key);
  if (!timeout_s) return mesh_pick(service_id, range, client, flags, choice);

  const struct mesh_affinity_key key = {.client = client, .service_id = service_id};
  const __u64 now_ns = MESH_NOW_NS();
  struct mesh_affinity *entry = bpf_map_lookup_elem(&affinity, &key);
  if (entry && mesh_take_affinity(entry, service_id, now_ns, timeout_s, choice)) {
    choice->by_affinity = 1;
    if (flags & MESH_CHOOSE_DRY) return MESH_REASON_NONE;
    MESH_WRITE_ONCE(entry->last_used_ns, now_ns);
    MESH_COUNT_SERVICE(service_id, affinity_hits);
    return MESH_REASON_NONE;
  }
  const int reason = mesh_pick(service_id, range, client, flags, choice);
  if (reason == MESH_REASON_NONE && !(flags & MESH_CHOOSE_DRY))
    mesh_remember_affinity(&key, service_id, now_ns, timeout_s, choice);
  return reason;
}

/*
 * Chooses a backend of the service. Returns MESH_REASON_NONE and fills `choice`, or the reason to refuse: NO_BACKEND,
 * STATE_ZERO, BAD_RANGE, STALE_SLOT. Counts only RETRIED and what it remembers; the caller counts the outcome.
 */
static __always_inline int mesh_choose(void *context, mesh_client_key client_key, __u32 service_id, __u32 flags,
                                       struct mesh_choice *choice) {
  int reason = mesh_choose_once(context, client_key, service_id, flags, choice);
  if (reason != MESH_REASON_STALE_SLOT) return reason;
  if (!(flags & MESH_CHOOSE_DRY)) mesh_count(MESH_REASON_RETRIED);
  return mesh_choose_once(context, client_key, service_id, flags, choice);
}

static __always_inline void mesh_count_opened(__u32 backend_id) {
  struct mesh_backend_live *live = bpf_map_lookup_elem(&backend_live, &backend_id);
  if (live) __sync_fetch_and_add(&live->opened, 1);
}

static __always_inline void mesh_count_refused(__u32 service_id, int reason) {
  mesh_count(reason);
  MESH_COUNT_SERVICE(service_id, refused);
  if (reason == MESH_REASON_NO_BACKEND) MESH_COUNT_SERVICE(service_id, refused_no_backend);
}

#endif /* MESH_BALANCE_H */
