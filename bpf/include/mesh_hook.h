/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Between the context of a cgroup address hook and the tables: the only file besides the programs that knows
 * struct bpf_sock_addr. IPv4 and IPv6 differ here and nowhere else.
 */
#ifndef MESH_HOOK_H
#define MESH_HOOK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "mesh_balance.h"
#include "mesh_owner.h"

#define MESH_ALLOW 1
#define MESH_DENY 0
#define MESH_ECONNREFUSED 111
#define MESH_IPPROTO_TCP 6
#define MESH_IPPROTO_UDP 17

enum mesh_family { MESH_V4 = 4, MESH_V6 = 6 };

/* The address of the call as a key: the destination in connect and sendmsg, the peer in recvmsg and getpeername. */
static __always_inline void mesh_read_address(struct bpf_sock_addr *ctx, enum mesh_family family,
                                              struct mesh_frontend_key *key) {
  __u32 *words = (__u32 *)key;
  /* VERIFIER: the field must be loaded with four bytes; without the barrier the compiler narrows it to two. */
  __u32 port_be = ctx->user_port;
  asm volatile("" : "+r"(port_be));
  if (family == MESH_V4) {
    words[0] = 0;
    words[1] = 0;
    words[2] = bpf_htonl(0xffff);
    words[3] = ctx->user_ip4;
  } else {
    words[0] = ctx->user_ip6[0];
    words[1] = ctx->user_ip6[1];
    words[2] = ctx->user_ip6[2];
    words[3] = ctx->user_ip6[3];
  }
  key->port_be = port_be;
  key->proto = ctx->protocol;
  key->zero = 0;
}

static __always_inline void mesh_write_address(struct bpf_sock_addr *ctx, enum mesh_family family, const __u8 *addr,
                                               __be16 port_be) {
  const __u32 *words = (const __u32 *)addr;
  if (family == MESH_V4) {
    ctx->user_ip4 = words[3];
  } else {
    ctx->user_ip6[0] = words[0];
    ctx->user_ip6[1] = words[1];
    ctx->user_ip6[2] = words[2];
    ctx->user_ip6[3] = words[3];
  }
  ctx->user_port = port_be;
}

/* Has a program before us on this cgroup or an outer one refused the call already? */
static __always_inline int mesh_denied_earlier(void) { return mesh_config.has_retval && bpf_get_retval() < 0; }

/* Without bpf_set_retval the kernel turns MESH_DENY into EPERM. */
static __always_inline int mesh_refuse(void) {
  if (mesh_config.has_retval) bpf_set_retval(-MESH_ECONNREFUSED);
  return MESH_DENY;
}

/* A hash of the address the socket is bound to; 0 if it isn't, whatever its family. */
static __always_inline __u64 mesh_source_key(struct bpf_sock_addr *ctx) {
  const struct bpf_sock *sk = ctx->sk;
  if (!sk) return 0;
  __u64 high = 0;
  __u64 low;
  if (ctx->family == 2 /* AF_INET */) {
    low = sk->src_ip4;
    if (low) low = low << 32 | bpf_htonl(0xffff);
  } else {
    high = (__u64)sk->src_ip6[1] << 32 | sk->src_ip6[0];
    low = (__u64)sk->src_ip6[3] << 32 | sk->src_ip6[2];
  }
  return mesh_address_key(high, low);
}

static __always_inline __u64 mesh_hook_client_key(void *context, __u8 hash_key) {
  switch (hash_key) {
    case MESH_KEY_CGROUP:
      return bpf_get_current_cgroup_id();
    case MESH_KEY_UID:
      return (__u32)bpf_get_current_uid_gid();
    case MESH_KEY_SOURCE_ADDRESS:
      return mesh_source_key(context);
    default:
      return bpf_get_netns_cookie(context);
  }
}

static __always_inline int mesh_is_exempt(const struct mesh_control *control_entry) {
  const __u64 agent = MESH_READ_ONCE(control_entry->exempt_cgroup_id);
  const __u32 relay = MESH_READ_ONCE(control_entry->exempt_relay_cgroup);
  if (!agent && !relay) return 0;
  const __u64 id = bpf_get_current_cgroup_id();
  return id == agent || (relay && (__u32)id == relay);
}

#endif /* MESH_HOOK_H */
