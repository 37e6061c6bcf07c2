/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services that the agent itself answers, in the network namespace of whoever asks: names. Their backend is a loopback
 * address; a socket of the agent's has to be there, or nothing is redirected. So an agent that is gone is not in
 * anybody's way, and no other process can take its place: only who may write the map `listeners` marks a socket.
 * Services that the relay speaks TLS for are the same, but where its socket is not there they are refused.
 */
#ifndef MESH_LISTENER_H
#define MESH_LISTENER_H

#include "mesh_hook.h"

static __always_inline struct bpf_sock *mesh_look_up(struct bpf_sock_addr *ctx, struct bpf_sock_tuple *tuple,
                                                     __u32 size, __u8 protocol) {
  if (protocol == MESH_IPPROTO_UDP) return bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
  return bpf_sk_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
}

/* Does a socket that the agent marked listen at the chosen address? A socket bound to a device can't reach it. */
static __always_inline int mesh_listener_is_there(struct bpf_sock_addr *ctx, enum mesh_family family,
                                                  const struct mesh_choice *choice, __u8 protocol) {
  if (!ctx->sk || ctx->sk->bound_dev_if) return 0;
  struct bpf_sock_tuple tuple = {};
  const __u32 *words = (const __u32 *)choice->addr;
  __u32 size = sizeof(tuple.ipv4);
  if (family == MESH_V4 || (!words[0] && !words[1] && words[2] == bpf_htonl(0xffff))) {
    tuple.ipv4.daddr = words[3];
    tuple.ipv4.dport = choice->port_be;
  } else {
    __builtin_memcpy(tuple.ipv6.daddr, words, sizeof(tuple.ipv6.daddr));
    tuple.ipv6.dport = choice->port_be;
    size = sizeof(tuple.ipv6);
  }
  struct bpf_sock *found = mesh_look_up(ctx, &tuple, size, protocol);
  if (!found) return 0;
  const int ours = bpf_sk_storage_get(&listeners, found, 0, 0) != 0;
  bpf_sk_release(found);
  return ours;
}

#endif /* MESH_LISTENER_H */
