// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Stands before workloads that other nodes reach over mutual TLS: a connection that comes to such an endpoint from
 * elsewhere did not come through the relay, so it is plaintext. It is counted, and refused from a moment on.
 *
 * sk_lookup of the agent's network namespace, the host's. Why here: it runs where the kernel looks for the socket that
 * a segment without a connection is for, before any listener has it; nothing of a connection that is open comes by.
 * What is dropped here looks to the client as if nobody listened (a reset). Attached only while there is something to
 * guard; then it costs each SYN one hash lookup, and each datagram for a socket that is not connected one comparison.
 * Minimum kernel: 5.17 (ingress_ifindex).
 * Agent dead: goes on, and refuses when the moment has come: it is in the table, by the clock that counts suspend, too.
 *
 * The relay connects from this very host, as do others of it: what comes over loopback is let through. An address of
 * this host as the source, from elsewhere, gets no answer, so no connection comes of it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "mesh_maps.h"

#define MESH_AF_INET 2
#define MESH_IPPROTO_TCP 6
#define MESH_LOOPBACK_IFINDEX 1 /* in every network namespace */

static __always_inline void mesh_guard_addresses(const struct bpf_sk_lookup *ctx, __u32 local[4], __u32 remote[4]) {
  if (ctx->family == MESH_AF_INET) {
    local[0] = remote[0] = 0;
    local[1] = remote[1] = 0;
    local[2] = remote[2] = bpf_htonl(0xffff);
    local[3] = ctx->local_ip4;
    remote[3] = ctx->remote_ip4;
    /* VERIFIER: a field must be loaded at its own offset; without this the compiler makes one load of both families'. */
    asm volatile("# IPv4" : "+r"(local[3]), "+r"(remote[3]));
    return;
  }
  local[0] = ctx->local_ip6[0];
  local[1] = ctx->local_ip6[1];
  local[2] = ctx->local_ip6[2];
  local[3] = ctx->local_ip6[3];
  remote[0] = ctx->remote_ip6[0];
  remote[1] = ctx->remote_ip6[1];
  remote[2] = ctx->remote_ip6[2];
  remote[3] = ctx->remote_ip6[3];
}

SEC("sk_lookup")
int mesh_guard(struct bpf_sk_lookup *ctx) {
  if (ctx->protocol != MESH_IPPROTO_TCP) return SK_PASS;
  struct mesh_guard_key key = {};
  __u32 local[4];
  __u32 remote[4];
  mesh_guard_addresses(ctx, local, remote);
  __builtin_memcpy(key.addr, local, sizeof(key.addr));
  key.port_be = bpf_htons(ctx->local_port);
  const struct mesh_guarded *entry = bpf_map_lookup_elem(&guarded, &key);
  if (!entry) return SK_PASS;
  /* IPv6 has the interface of the address here, also where a packet came over loopback. */
  if (ctx->ingress_ifindex == MESH_LOOPBACK_IFINDEX || !__builtin_memcmp(local, remote, sizeof(local))) return SK_PASS;
  const __u64 now = bpf_ktime_get_boot_ns();
  const int taken = now < entry->until_ns;
  struct mesh_guard_counts *counts = bpf_map_lookup_elem(&guard_counts, &entry->service);
  if (counts) {
    counts->taken += taken;
    counts->refused += !taken;
    counts->seen_ns = now;
    __builtin_memcpy(counts->source, remote, sizeof(counts->source));
  }
  return taken ? SK_PASS : SK_DROP;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
