// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What became of a connection: established, failed, closed.
 *
 * sock_release, on close(2). Why here: the one hook that every closed IPv4 and IPv6 socket passes, TCP and UDP alike,
 * also when its process is killed; and the socket still has its counters. Call path: inet_release() and inet6_release()
 * -> cgroup; sockets of the kernel itself don't pass it. Minimum kernel: 5.12, as connect.
 *
 * inet_sock_set_state, a tracepoint: a TCP socket's state changes; SYN_SENT to ESTABLISHED is the client's side of a
 * handshake done. Why here: it leaves the sockets of others after two comparisons (sockops programs are called through
 * the cgroup five or six times per connection), and it can be attached where functions can't be (fentry on
 * tcp_finish_connect, once per connection, would cost less; kernels without function trampolines, or whose owner forbids
 * them, refuse it). Minimum kernel: 5.5.
 *
 * inet_sk_error_report, a tracepoint: an error is put on a socket. Why here: refused, reset, timed out, unreachable, for
 * TCP and connected UDP, and it runs only when something goes wrong. Minimum kernel: 5.14.
 *
 * Both see the sockets of the whole host; a socket without a cookie, or without a record, is left at once.
 * Agent dead: all go on; nothing leaks, counters count.
 * Counted: per backend live and outcomes, per service the connect latency; owner_left, events_dropped in `reasons`.
 * The pass-through switch is not asked, on purpose: nothing an application sees changes here, and while it is on, the
 * records of sockets that close would stay behind.
 */
#include "mesh_hook.h"
#include "mesh_outcome.h"
#include "mesh_socket.h"

#include <bpf/bpf_tracing.h>

enum { MESH_TCP_ESTABLISHED = 1, MESH_TCP_SYN_SENT = 2 }; /* include/net/tcp_states.h */
enum { MESH_ECONNABORTED = 103, MESH_ECONNRESET = 104, MESH_ETIMEDOUT = 110, MESH_EPIPE = 32 };
enum { MESH_SOCK_DONE = 1, MESH_SOCK_LINGER = 4 }; /* bits of enum sock_flags; DONE: a FIN arrived */

static __always_inline __u8 mesh_error_of_connect(int error) {
  if (error == MESH_ECONNREFUSED) return MESH_REFUSED;
  return error == MESH_ETIMEDOUT ? MESH_TIMED_OUT : MESH_UNREACHABLE;
}

static __always_inline __u8 mesh_error_of_connection(int error) {
  return error == MESH_ECONNRESET || error == MESH_EPIPE ? MESH_RESET : MESH_LOST;
}

/* Only a connection that is destroyed on this host ends with ECONNABORTED, in whatever state. */
static __always_inline __u8 mesh_outcome_of_error(int error, int established) {
  if (error == MESH_ECONNABORTED) return MESH_KILLED;
  return established ? mesh_error_of_connection(error) : mesh_error_of_connect(error);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(mesh_established, struct sock___mesh *sk, int from, int to) {
  if (from != MESH_TCP_SYN_SENT || to != MESH_TCP_ESTABLISHED) return 0;
  const __u64 cookie = sk->__sk_common.skc_cookie.counter;
  if (!cookie) return 0;
  struct mesh_owner *record = mesh_owner_find(cookie);
  if (record && (record->flags & MESH_OWNER_FEEDBACK))
    mesh_record_established(record, (bpf_ktime_get_ns() - record->start_ns) / MESH_NS_PER_US);
  return 0;
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(mesh_error, struct sock___mesh *sk) {
  const __u64 cookie = sk->__sk_common.skc_cookie.counter;
  const int error = sk->sk_err;
  if (!cookie || !error) return 0; /* a message in the socket's error queue is no end */
  struct mesh_owner *record = mesh_owner_find(cookie);
  if (!record || !(record->flags & MESH_OWNER_FEEDBACK)) return 0;
  mesh_record_failed(record, mesh_outcome_of_error(error, record->connect_us != 0), bpf_ktime_get_ns());
  return 0;
}

static __always_inline __u32 mesh_has_flag(struct sock___mesh *sk, int bit) {
  return MESH_READ_KERNEL(sk, __sk_common.skc_flags) >> bit & 1;
}

/*
 * mesh_error saw no error: the application closes. An error that it has not fetched is one that came just now: the kernel
 * wakes it first and reports then. Unread data or linger 0 make the kernel reset the peer.
 * A handshake that was repeated and never answered is a black hole, even if the application lost patience first. One
 * that never began had no route, or no local port.
 */
static __always_inline __u8 mesh_outcome_of_close(struct sock___mesh *sk, struct tcp_sock___mesh *tcp,
                                                  int established) {
  const int error = MESH_READ_KERNEL(sk, sk_err);
  if (error) return mesh_outcome_of_error(error, established);
  if (!established) {
    if (!MESH_READ_KERNEL(tcp, write_seq)) return MESH_UNREACHABLE;
    return MESH_READ_KERNEL(tcp, total_retrans) ? MESH_TIMED_OUT : MESH_ABORTED;
  }
  const int linger_0 = mesh_has_flag(sk, MESH_SOCK_LINGER) && !MESH_READ_KERNEL(sk, sk_lingertime);
  const __u32 unread = MESH_READ_KERNEL(tcp, rcv_nxt) -
                       MESH_READ_KERNEL(tcp, copied_seq); /* a FIN that was not read as end of file counts 1 */
  return linger_0 || unread > mesh_has_flag(sk, MESH_SOCK_DONE) ? MESH_RESET_BY_US : MESH_CLOSED;
}

/*
 * What a TCP socket's own counters say. They count a SYN that was sent as a byte, and a FIN that arrived.
 * Where mesh_established can't be attached, a round trip time says that there was a connection, and how long its
 * handshake took, more or less.
 */
static __always_inline void mesh_read_tcp(struct sock___mesh *sk, struct mesh_owner *record,
                                          struct mesh_ending *ending) {
  struct tcp_sock___mesh *tcp = mesh_kernel_tcp_sock(sk);
  const __u64 written =
      MESH_READ_KERNEL(tcp, bytes_acked) + (__u32)(MESH_READ_KERNEL(tcp, write_seq) - MESH_READ_KERNEL(tcp, snd_una));
  ending->srtt_us = MESH_READ_KERNEL(tcp, srtt_us) >> 3;
  if (ending->srtt_us && !record->connect_us) mesh_record_established(record, ending->srtt_us);
  ending->bytes_out = written ? written - 1 : 0;
  ending->bytes_in = MESH_READ_KERNEL(tcp, bytes_received) - mesh_has_flag(sk, MESH_SOCK_DONE);
  ending->retransmits = MESH_READ_KERNEL(tcp, total_retrans);
  ending->outcome = mesh_outcome_of_close(sk, tcp, record->connect_us != 0);
}

/*
 * A socket whose cookie nobody asked for has no record. bpf_get_socket_cookie() would make one, for every socket of the
 * cgroup that closes, at several times the price of all the rest.
 */
static __always_inline int mesh_never_connected(struct bpf_sock *ctx) {
  if (!mesh_sees_sockets() || ctx->protocol == MESH_IPPROTO_MPTCP) return 0;
  struct sock___mesh *sk = mesh_kernel_sock(ctx);
  return MESH_READ_KERNEL(sk, __sk_common.skc_cookie.counter) == 0;
}

static __always_inline void mesh_close_record(struct bpf_sock *ctx, struct mesh_owner *record, __u64 cookie) {
  struct mesh_ending ending = {};
  if (mesh_sees_sockets() && ctx->protocol == MESH_IPPROTO_TCP && (record->flags & MESH_OWNER_FEEDBACK))
    mesh_read_tcp(mesh_kernel_sock(ctx), record, &ending);
  mesh_record_end(record, &ending, cookie);
  mesh_owner_free(record, cookie);
}

SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *ctx) {
  if (mesh_never_connected(ctx)) return MESH_ALLOW;
  const __u64 cookie = mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx));
  struct mesh_owner *record = mesh_owner_find(cookie);
  if (record) mesh_close_record(ctx, record, cookie);
  return MESH_ALLOW;
}

/*
 * In place of mesh_release while the owner map is being moved: a record has left when it is gone from the maps that
 * are left first and from the new map after that. In this order a copier that inserts a record and then finds it gone
 * from the old map can take it back, and none stays behind (agent/datapath/migrate.cpp). A record that was not copied
 * yet is counted as closed; what its connection experienced is not known here (an older build's second line).
 */
SEC("cgroup/sock_release")
int mesh_mv_release(struct bpf_sock *ctx) {
  if (mesh_never_connected(ctx)) return MESH_ALLOW;
  const __u64 cookie = mesh_owner_cookie(ctx, ctx->protocol, bpf_get_socket_cookie(ctx));
  struct mesh_owner *a = mesh_owner_find_a(cookie);
  const __u32 backend_id = a ? a->backend_id : 0;
  if (a) mesh_owner_free(a, cookie);
  struct mesh_owner *b = mesh_owner_find_b(cookie);
  if (b) mesh_owner_free(b, cookie);
  struct mesh_owner *record = mesh_owner_find(cookie);
  if (record) {
    mesh_close_record(ctx, record, cookie);
    return MESH_ALLOW;
  }
  struct mesh_backend_live *live = backend_id ? mesh_backend_live_of(backend_id) : 0;
  if (live) __sync_fetch_and_add(&live->closed, 1);
  return MESH_ALLOW;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
