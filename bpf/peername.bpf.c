// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * getpeername(2): the application sees the address it asked for.
 *
 * Why here: TLS libraries, database drivers and logs compare the peer with what they connected to.
 * Call path: inet_getname() and inet6_getname() with peer set -> cgroup. The context's address is the real peer.
 * Minimum kernel: 5.12, as connect.
 * Agent dead: the owner records go on.
 * Counted: nothing. A socket without a record, or whose record is about another peer, sees the truth.
 */
#include "mesh_hook.h"

static __always_inline int mesh_peername(struct bpf_sock_addr *ctx, enum mesh_family family, enum mesh_move move) {
  if (mesh_switched_off(mesh_control_get())) return MESH_ALLOW;
  struct mesh_frontend_key peer __attribute__((aligned(8)));
  mesh_read_address(ctx, family, &peer);
  const __u64 cookie = mesh_owner_cookie(ctx->sk, ctx->protocol, bpf_get_socket_cookie(ctx));
  if (mesh_owner_translate(cookie, &peer, move)) mesh_write_address(ctx, family, peer.addr, peer.port_be);
  return MESH_ALLOW;
}

SEC("cgroup/getpeername4")
int mesh_peername4(struct bpf_sock_addr *ctx) { return mesh_peername(ctx, MESH_V4, MESH_SETTLED); }

SEC("cgroup/getpeername6")
int mesh_peername6(struct bpf_sock_addr *ctx) { return mesh_peername(ctx, MESH_V6, MESH_SETTLED); }

/* In their place while the owner map is being moved. */
SEC("cgroup/getpeername4")
int mesh_mv_peer4(struct bpf_sock_addr *ctx) { return mesh_peername(ctx, MESH_V4, MESH_MOVING); }

SEC("cgroup/getpeername6")
int mesh_mv_peer6(struct bpf_sock_addr *ctx) { return mesh_peername(ctx, MESH_V6, MESH_MOVING); }

char mesh_license[] SEC("license") = "Dual BSD/GPL";
