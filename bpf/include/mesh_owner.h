/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The owner record: which service and backend a socket's connection belongs to, and what the application asked for.
 * getpeername() and recvfrom() answer from it, drain and flows will. One record per connected socket, found by the
 * socket's cookie, deleted by sock_release: docs/decisions/0002-owner-record.md says why a hash and not sk_storage.
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

#define MESH_ENOENT 2

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

/* Writes or replaces the socket's record. A full map costs the application only the answer of getpeername(). */
static __always_inline void mesh_owner_put(const struct mesh_owner *record) {
  if (!bpf_map_update_elem(&owner, &record->cookie, record, BPF_ANY)) return;
  mesh_count(MESH_REASON_OWNER_FULL);
}

/*
 * Deletes a record; that there is none is well. A bucket's lock may give up under contention (since 6.15 it has a
 * deadline): once more, then it is counted, because what stays behind is a record of no socket.
 */
static __always_inline void mesh_owner_delete(void *records, const __u64 *cookie) {
  long error = bpf_map_delete_elem(records, cookie);
  if (error && error != -MESH_ENOENT) error = bpf_map_delete_elem(records, cookie);
  if (error && error != -MESH_ENOENT) mesh_count(MESH_REASON_OWNER_LEFT);
}

/* The socket goes elsewhere now: a record of an earlier connect() would lie. */
static __always_inline void mesh_owner_forget(__u64 cookie) {
  if (bpf_map_lookup_elem(&owner, &cookie)) mesh_owner_delete(&owner, &cookie);
}

static __always_inline int mesh_owner_apply(const struct mesh_owner *record, __u64 cookie,
                                            struct mesh_frontend_key *peer) {
  if (!record || record->cookie != cookie || record->backend_port_be != peer->port_be ||
      __builtin_memcmp(record->backend_addr, peer->addr, sizeof(peer->addr)))
    return 0;
  __builtin_memcpy(peer->addr, record->frontend_addr, sizeof(peer->addr));
  peer->port_be = record->frontend_port_be;
  return 1;
}

/* Replaces the address of a backend by the one the application asked for, if a record is about this very peer. */
static __always_inline int mesh_owner_translate(__u64 cookie, struct mesh_frontend_key *peer, enum mesh_move move) {
  if (mesh_owner_apply(bpf_map_lookup_elem(&owner, &cookie), cookie, peer)) return 1;
  return move == MESH_MOVING && (mesh_owner_apply(bpf_map_lookup_elem(&owner_prev_a, &cookie), cookie, peer) ||
                                 mesh_owner_apply(bpf_map_lookup_elem(&owner_prev_b, &cookie), cookie, peer));
}

#endif /* MESH_OWNER_H */
