// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Resets connections on purpose: the sockets that the agent put on the list `doomed`, when their backend is drained.
 *
 * Iterators over the TCP and UDP sockets of one network namespace: that of the thread which opens them
 * (agent/datapath/kill.cpp). Why here: the one place where bpf_sock_destroy() is allowed, and a walk visits every state
 * in which a socket has a peer: half-open (SYN_SENT), established, half-closed, connected UDP; IPv4 and IPv6. One walk
 * serves any number of backends.
 * Minimum kernel: 6.5 (bpf_sock_destroy); before, the agent asks sock_diag to do it.
 * Agent dead: nothing runs; connections to drained backends stay until they end by themselves.
 *
 * A socket is only destroyed if it still is what the agent saw: its cookie is on the list, its owner record names the
 * backend and generation on the list, and its actual peer is that record's backend. The application gets ECONNABORTED,
 * and mesh_error books MESH_KILLED.
 */
#include "mesh_hook.h"
#include "mesh_owner.h"

#include <bpf/bpf_core_read.h>

struct sock_common {
  unsigned short skc_family;
  __be16 skc_dport;
  __be32 skc_daddr;
  struct {
    union {
      __u8 u6_addr8[16];
    } in6_u;
  } skc_v6_daddr;
  struct {
    __s64 counter;
  } skc_cookie;
} __attribute__((preserve_access_index));

struct sock {
  struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct inet_sock {
  struct sock sk;
} __attribute__((preserve_access_index));

struct udp_sock {
  struct inet_sock inet;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
  struct sock_common *sk_common;
} __attribute__((preserve_access_index));

struct bpf_iter__udp {
  struct udp_sock *udp_sk;
} __attribute__((preserve_access_index));

extern int bpf_sock_destroy(struct sock_common *sock) __ksym __weak;

#define MESH_AF_INET6 10

static __always_inline int mesh_peer_is_backend(const struct sock_common *sk, const struct mesh_owner *record) {
  __u8 peer[16] = {[10] = 0xff, [11] = 0xff};
  if (sk->skc_family == MESH_AF_INET6)
    bpf_core_read(peer, sizeof(peer), &sk->skc_v6_daddr);
  else
    bpf_core_read(&peer[12], sizeof(__be32), &sk->skc_daddr);
  return sk->skc_dport == record->backend_port_be && !__builtin_memcmp(peer, record->backend_addr, sizeof(peer));
}

/* The socket's entry on the list, if it still is the connection that was put there. */
static __always_inline struct mesh_doomed *mesh_doomed_of(const struct sock_common *sk) {
  const __u64 cookie = sk->skc_cookie.counter;
  if (!cookie) return 0;
  struct mesh_doomed *entry = bpf_map_lookup_elem(&doomed, &cookie);
  if (!entry) return 0;
  const struct mesh_owner *record = mesh_owner_find(cookie);
  if (!record || record->backend_id != entry->backend_id || record->backend_generation != entry->backend_generation)
    return 0;
  return mesh_peer_is_backend(sk, record) ? entry : 0;
}

SEC("iter/tcp")
int mesh_kill_tcp(struct bpf_iter__tcp *ctx) {
  struct sock_common *sk = ctx->sk_common;
  struct mesh_doomed *entry = sk ? mesh_doomed_of(sk) : 0;
  if (entry) entry->outcome = bpf_sock_destroy(sk) ? MESH_DOOMED_REFUSED : MESH_DOOMED_KILLED;
  return 0;
}

SEC("iter/udp")
int mesh_kill_udp(struct bpf_iter__udp *ctx) {
  struct sock_common *sk = (struct sock_common *)ctx->udp_sk;
  struct mesh_doomed *entry = sk ? mesh_doomed_of(sk) : 0;
  if (entry) entry->outcome = bpf_sock_destroy(sk) ? MESH_DOOMED_REFUSED : MESH_DOOMED_KILLED;
  return 0;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
