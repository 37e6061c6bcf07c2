// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * close(2): a socket's owner record goes with it.
 *
 * Why here: the one hook that every closed IPv4 and IPv6 socket passes, TCP and UDP alike.
 * Call path: inet_release() and inet6_release() -> cgroup; sockets of the kernel itself don't pass it.
 * Minimum kernel: 5.12, as connect.
 * Agent dead: goes on; nothing leaks.
 * Counted: nothing.
 * The pass-through switch is not asked, on purpose: nothing an application sees changes here, and while it is on,
 * the records of sockets that close would stay behind.
 */
#include "mesh_hook.h"

SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *ctx) {
  mesh_owner_forget(mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx)));
  return MESH_ALLOW;
}

/*
 * In place of mesh_release while the owner map is being moved: a record has left when it is gone from the maps that
 * are left first and from the new map after that. In this order a copier that inserts a record and then finds it gone
 * from the old map can take it back, and none stays behind (agent/datapath/migrate.cpp).
 */
SEC("cgroup/sock_release")
int mesh_mv_release(struct bpf_sock *ctx) {
  const __u64 cookie = mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx));
  bpf_map_delete_elem(&owner_prev_a, &cookie);
  bpf_map_delete_elem(&owner_prev_b, &cookie);
  bpf_map_delete_elem(&owner, &cookie);
  return MESH_ALLOW;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
