// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * close(2): a socket's owner record goes with it.
 *
 * Why here: the one hook that every closed IPv4 and IPv6 socket passes, TCP and UDP alike.
 * Call path: inet_release() and inet6_release() -> cgroup; sockets of the kernel itself don't pass it.
 * Minimum kernel: 5.12, as connect.
 * Agent dead: goes on; nothing leaks.
 * Counted: owner_left.
 * The pass-through switch is not asked, on purpose: nothing an application sees changes here, and while it is on,
 * the records of sockets that close would stay behind.
 */
#include "mesh_hook.h"

/* The kernel's own socket, as far as it is looked at. */
struct sock_common___mesh {
  struct {
    __s64 counter;
  } skc_cookie;
} __attribute__((preserve_access_index));
struct sock___mesh {
  struct sock_common___mesh __sk_common;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *context) __ksym __weak;

/*
 * A socket whose cookie nobody asked for has no record. bpf_get_socket_cookie() would make one, for every socket of the
 * cgroup that closes, at several times the price of all the rest.
 */
static __always_inline int mesh_never_connected(struct bpf_sock *ctx) {
  if (!mesh_config.has_kernel_context || ctx->protocol == MESH_IPPROTO_MPTCP) return 0;
  const struct sock___mesh *sk = bpf_cast_to_kern_ctx(ctx);
  return sk->__sk_common.skc_cookie.counter == 0;
}

SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *ctx) {
  if (mesh_never_connected(ctx)) return MESH_ALLOW;
  const __u64 cookie = mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx));
  mesh_owner_delete(&owner, &cookie);
  return MESH_ALLOW;
}

/*
 * In place of mesh_release while the owner map is being moved: a record has left when it is gone from the maps that
 * are left first and from the new map after that. In this order a copier that inserts a record and then finds it gone
 * from the old map can take it back, and none stays behind (agent/datapath/migrate.cpp).
 */
SEC("cgroup/sock_release")
int mesh_mv_release(struct bpf_sock *ctx) {
  if (mesh_never_connected(ctx)) return MESH_ALLOW;
  const __u64 cookie = mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx));
  mesh_owner_delete(&owner_prev_a, &cookie);
  mesh_owner_delete(&owner_prev_b, &cookie);
  mesh_owner_delete(&owner, &cookie);
  return MESH_ALLOW;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
