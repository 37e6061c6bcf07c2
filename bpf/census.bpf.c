// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Which owner records still have a socket: the cookies of all sockets that are met and have a record, as 8 bytes each.
 *
 * Iterators: over the TCP and UDP sockets of one network namespace (that of the thread which opens them), which are
 * those with an address; and over the open files of all processes, which have the sockets without one as well: bound,
 * refused, closed at both ends, MPTCP. Why here: whatever lives is in one of the two, and what has no record costs a
 * look-up and is not copied.
 * Minimum kernel: 5.11 (bpf_sock_from_file).
 * Agent dead: nothing runs; records that nobody ended stay.
 * What is made of it: agent/datapath/census.hpp
 */
#include "mesh_hook.h"
#include "mesh_owner.h"

#include <bpf/bpf_core_read.h>

struct sock_common {
  struct {
    __s64 counter;
  } skc_cookie;
} __attribute__((preserve_access_index));

struct sock {
  struct sock_common __sk_common;
  __u16 sk_protocol;
} __attribute__((preserve_access_index));

struct socket {
  struct sock *sk;
} __attribute__((preserve_access_index));

struct inet_sock {
  struct sock sk;
} __attribute__((preserve_access_index));

struct udp_sock {
  struct inet_sock inet;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
  struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
  struct bpf_iter_meta *meta;
  struct sock_common *sk_common;
} __attribute__((preserve_access_index));

struct bpf_iter__udp {
  struct bpf_iter_meta *meta;
  struct udp_sock *udp_sk;
} __attribute__((preserve_access_index));

struct bpf_iter__task_file {
  struct bpf_iter_meta *meta;
  struct file *file;
} __attribute__((preserve_access_index));

static __always_inline void mesh_met(struct seq_file *out, __u64 cookie) {
  if (cookie && mesh_owner_find(cookie)) bpf_seq_write(out, &cookie, sizeof(cookie));
}

SEC("iter/tcp")
int mesh_meet_tcp(struct bpf_iter__tcp *ctx) {
  const struct sock_common *sk = ctx->sk_common;
  if (sk) mesh_met(ctx->meta->seq, sk->skc_cookie.counter);
  return 0;
}

SEC("iter/udp")
int mesh_meet_udp(struct bpf_iter__udp *ctx) {
  const struct sock_common *sk = (struct sock_common *)ctx->udp_sk;
  if (sk) mesh_met(ctx->meta->seq, sk->skc_cookie.counter);
  return 0;
}

SEC("iter/task_file")
int mesh_meet_files(struct bpf_iter__task_file *ctx) {
  struct file *file = ctx->file;
  struct socket *socket = file ? bpf_sock_from_file(file) : 0;
  struct sock *sk = socket ? socket->sk : 0;
  if (!sk) return 0;
  mesh_met(ctx->meta->seq, sk->__sk_common.skc_cookie.counter);
  if (!mesh_config.has_mptcp || sk->sk_protocol != MESH_IPPROTO_MPTCP) return 0;
  const __u64 *link = bpf_sk_storage_get(&mptcp_owner, sk, 0, 0);
  if (link) mesh_met(ctx->meta->seq, *link);
  return 0;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
