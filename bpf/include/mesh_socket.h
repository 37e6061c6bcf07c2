/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's own sockets, as far as programs look at them. Since Linux 6.2 they are read directly; before, each member
 * is copied by a helper, which costs some nanoseconds and needs CAP_PERFMON; not allowed where the kernel is locked down
 * (confidentiality).
 */
#ifndef MESH_SOCKET_H
#define MESH_SOCKET_H

#include "mesh_config.h"

#include <bpf/bpf_core_read.h>

struct sock_common___mesh {
  unsigned long skc_flags;
  struct {
    __s64 counter;
  } skc_cookie;
} __attribute__((preserve_access_index));
struct sock___mesh {
  struct sock_common___mesh __sk_common;
  int sk_err;
  unsigned long sk_lingertime;
} __attribute__((preserve_access_index));
struct tcp_sock___mesh {
  __u32 rcv_nxt;
  __u32 copied_seq;
  __u32 write_seq;
  __u32 snd_una;
  __u32 srtt_us; /* eighths */
  __u32 total_retrans;
  __u64 bytes_acked;
  __u64 bytes_received;
} __attribute__((preserve_access_index));
struct bpf_sock_addr_kern___mesh {
  struct sock___mesh *sk;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *context) __ksym __weak;
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

/* Can programs look at a socket at all? */
static __always_inline int mesh_sees_sockets(void) {
  return mesh_config.has_kernel_context || mesh_config.has_kernel_read;
}

/* What is at `object`, a pointer that one of the functions below gave. */
#define MESH_READ_KERNEL(object, member)                       \
  ({                                                           \
    __typeof__((object)->member) copy_;                        \
    if (mesh_config.has_kernel_context)                        \
      copy_ = (object)->member;                                \
    else                                                       \
      bpf_core_read(&copy_, sizeof(copy_), &(object)->member); \
    copy_;                                                     \
  })

/* The context of cgroup/sock programs is the kernel's socket itself, seen as a struct bpf_sock. */
static __always_inline struct sock___mesh *mesh_kernel_sock(struct bpf_sock *ctx) {
  if (!mesh_config.has_kernel_context) return (struct sock___mesh *)ctx;
  return bpf_rdonly_cast(ctx, bpf_core_type_id_kernel(struct sock___mesh));
}

static __always_inline struct tcp_sock___mesh *mesh_kernel_tcp_sock(struct sock___mesh *sk) {
  if (!mesh_config.has_kernel_context) return (struct tcp_sock___mesh *)sk;
  return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock___mesh));
}

/* That of cgroup/connect and its like leads there. */
static __always_inline struct sock___mesh *mesh_kernel_sock_of_address(struct bpf_sock_addr *ctx) {
  struct bpf_sock_addr_kern___mesh *context = (struct bpf_sock_addr_kern___mesh *)ctx;
  if (mesh_config.has_kernel_context) context = bpf_cast_to_kern_ctx(ctx);
  return MESH_READ_KERNEL(context, sk);
}

#endif /* MESH_SOCKET_H */
