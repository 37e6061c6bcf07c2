/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The owner record: which service and backend a socket's connection belongs to, and what the application asked for.
 * getpeername(), recvfrom(), drain and flows answer from it. One record per balanced socket, made by connect(), ended
 * by the next connect() or by sock_release.
 *
 * `owner` is an array. The kernel numbers sockets in order (socket cookies), so a socket's slot is the low bits of its
 * cookie; if a longer-lived socket has that one, another of the MESH_OWNER_WAYS slots around it. No lock, no hash, no
 * free list: docs/decisions/0002-owner-record.md has the measurements. A slot is claimed by compare-and-swap, written
 * while it is marked busy, and then published by its cookie; cookies are never used twice, so a record can't be taken
 * for another socket's.
 *
 * A record is a claim about a socket, not the truth: the connect it belongs to may have failed, or another program may
 * have rewritten the address after us. So readers believe it only if the socket's actual peer is the record's backend.
 */
#ifndef MESH_OWNER_H
#define MESH_OWNER_H

#include "mesh_balance.h"

#define MESH_IPPROTO_MPTCP 262

/*
 * While tables are being moved, a record may be in the map that is left or in the one that is taken up, depending on
 * which connect program wrote it. Programs that answer from records look into both until the move is over.
 */
enum mesh_move { MESH_SETTLED, MESH_MOVING };

/* The slot of `map` whose record is this cookie's, or 0. */
#define MESH_DEFINE_FIND(function, map, mask)                                                 \
  __attribute__((weak, noinline)) __u32 function##_elsewhere(__u64 cookie) {                  \
    _Pragma("clang loop unroll(disable)") for (__u32 way = 1; way < MESH_OWNER_WAYS; way++) { \
      const __u32 index = ((__u32)cookie ^ way) & mesh_config.mask;                           \
      const struct mesh_owner *record = bpf_map_lookup_elem(&map, &index);                    \
      if (record && MESH_READ_ONCE(record->cookie) == cookie) return way;                     \
    }                                                                                         \
    return 0;                                                                                 \
  }                                                                                           \
  static __always_inline struct mesh_owner *function(__u64 cookie) {                          \
    __u32 index = (__u32)cookie & mesh_config.mask;                                           \
    struct mesh_owner *record = bpf_map_lookup_elem(&map, &index);                            \
    if (!record || MESH_READ_ONCE(record->cookie) == cookie) return record;                   \
    const __u32 way = function##_elsewhere(cookie);                                           \
    if (!way) return 0;                                                                       \
    index ^= way;                                                                             \
    return bpf_map_lookup_elem(&map, &index);                                                 \
  }

MESH_DEFINE_FIND(mesh_owner_find, owner, owner_mask)
MESH_DEFINE_FIND(mesh_owner_find_a, owner_prev_a, owner_prev_mask_a)
MESH_DEFINE_FIND(mesh_owner_find_b, owner_prev_b, owner_prev_mask_b)

static __always_inline int mesh_owner_try_claim(struct mesh_owner *record, __u64 cookie) {
  return !MESH_READ_ONCE(record->cookie) && !__sync_val_compare_and_swap(&record->cookie, 0, cookie ^ MESH_OWNER_BUSY);
}

/* Claims a free slot other than the cookie's first; 0 if there is none. */
__attribute__((weak, noinline)) __u32 mesh_owner_claim_elsewhere(__u64 cookie) {
#pragma clang loop unroll(disable)
  for (__u32 way = 1; way < MESH_OWNER_WAYS; way++) {
    const __u32 index = ((__u32)cookie ^ way) & mesh_config.owner_mask;
    struct mesh_owner *record = bpf_map_lookup_elem(&owner, &index);
    if (record && mesh_owner_try_claim(record, cookie)) return way;
  }
  return 0;
}

/* A slot for a socket that has none, marked busy; 0 if there is no room. */
static __always_inline struct mesh_owner *mesh_owner_claim(__u64 cookie) {
  __u32 index = (__u32)cookie & mesh_config.owner_mask;
  struct mesh_owner *record = bpf_map_lookup_elem(&owner, &index);
  if (!record || mesh_owner_try_claim(record, cookie)) return record;
  const __u32 way = mesh_owner_claim_elsewhere(cookie);
  if (!way) return 0;
  index ^= way;
  return bpf_map_lookup_elem(&owner, &index);
}

/* The record is whole: from now on it is found. An exchange, because a plain store may overtake those before it. */
static __always_inline void mesh_owner_publish(struct mesh_owner *record, __u64 cookie) {
  __sync_lock_test_and_set(&record->cookie, cookie);
}

/* Frees the slot if it still is this cookie's: the agent frees records whose socket is gone, and others take the slot. */
static __always_inline void mesh_owner_free(struct mesh_owner *record, __u64 cookie) {
  __sync_val_compare_and_swap(&record->cookie, cookie, 0);
}

/* Marks the record of a socket that connects anew as being written; 0 if it isn't this cookie's any more. */
static __always_inline int mesh_owner_retake(struct mesh_owner *record, __u64 cookie) {
  return __sync_val_compare_and_swap(&record->cookie, cookie, cookie ^ MESH_OWNER_BUSY) == cookie;
}

/*
 * An MPTCP connection connects by a subflow, which has a cookie of its own, and is named and closed by the socket the
 * application has. That one's storage leads to the record.
 */
static __always_inline void mesh_owner_link_mptcp(struct bpf_sock *sk, __u64 cookie) {
  struct mptcp_sock *mptcp = mesh_config.has_mptcp && sk ? bpf_skc_to_mptcp_sock(sk) : 0;
  if (!mptcp) return;
  __u64 *link = bpf_sk_storage_get(&mptcp_owner, mptcp, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (link) *link = cookie;
}

static __always_inline __u64 mesh_owner_cookie(struct bpf_sock *sk, __u32 protocol, __u64 cookie) {
  if (protocol != MESH_IPPROTO_MPTCP || !mesh_config.has_mptcp || !sk) return cookie;
  const __u64 *link = bpf_sk_storage_get(&mptcp_owner, sk, 0, 0);
  return link ? *link : cookie;
}

static __always_inline int mesh_owner_apply(const struct mesh_owner *record, struct mesh_frontend_key *peer) {
  if (!record || record->backend_port_be != peer->port_be ||
      __builtin_memcmp(record->backend_addr, peer->addr, sizeof(peer->addr)))
    return 0;
  __builtin_memcpy(peer->addr, record->frontend_addr, sizeof(peer->addr));
  peer->port_be = record->frontend_port_be;
  return 1;
}

/* Replaces the address of a backend by the one the application asked for, if a record is about this very peer. */
static __always_inline int mesh_owner_translate(__u64 cookie, struct mesh_frontend_key *peer, enum mesh_move move) {
  if (mesh_owner_apply(mesh_owner_find(cookie), peer)) return 1;
  return move == MESH_MOVING &&
         (mesh_owner_apply(mesh_owner_find_a(cookie), peer) || mesh_owner_apply(mesh_owner_find_b(cookie), peer));
}

#endif /* MESH_OWNER_H */
