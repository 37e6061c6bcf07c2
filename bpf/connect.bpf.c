// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * connect(2): where a service's address becomes a backend's.
 *
 * Why here: the only place where the choice is made once per connection instead of once per packet, with the
 * application's identity at hand and nothing left to do afterwards.
 * Call path: inet_stream_connect() or inet_dgram_connect() -> sk->sk_prot->pre_connect (tcp_v4_pre_connect,
 * tcp_v6_pre_connect, ip4_datagram_connect's and ip6_datagram_connect's wrappers) -> cgroup. TCP fast open arrives
 * through tcp_sendmsg_fastopen(), MPTCP with its first subflow and protocol 6. An IPv4 address on an AF_INET6 socket
 * arrives in connect6 as ::ffff:a.b.c.d. connect(AF_UNSPEC) fires no hook.
 * Minimum kernel: 5.12 (atomics with a result). From 5.18 on a refusal is ECONNREFUSED and the verdict of earlier
 * programs is seen; before, a refusal is EPERM.
 * Agent dead: the tables of the last plan stay in force.
 * Counted: per service connects, refused, passed, affinity_hits; per backend opened, and closed where a socket connects
 * anew; in `reasons` whatever was not ordinary.
 */
#include "mesh_listener.h"
#include "mesh_outcome.h"
#include "mesh_socket.h"

/*
 * May the socket have a record of an earlier connect()? Most never had one, so what is nearly free comes first: a record
 * is made with the socket's cookie, which no fresh socket has. To be asked before the helper is: that makes one. (A TCP
 * socket's peer is no sign: a connect() that found no route leaves none, and its record.) Kernels that don't show the
 * cookie look for a record each time.
 */
static __always_inline int mesh_connected_before(struct bpf_sock_addr *ctx) {
  if (!mesh_sees_sockets()) return 1;
  struct sock___mesh *sk = mesh_kernel_sock_of_address(ctx);
  return MESH_READ_KERNEL(sk, __sk_common.skc_cookie.counter) != 0;
}

/* What connect() knows of the connection that the socket had until now. */
static __always_inline void mesh_end_earlier(struct mesh_owner *record, __u64 cookie) {
  const struct mesh_ending ending = {.outcome =
                                         record->proto == MESH_IPPROTO_TCP && !record->connect_us ? MESH_ABORTED : 0};
  mesh_record_end(record, &ending, cookie);
}

/* An ordinary connection: a record of the socket's earlier connect() must not speak for it. */
static __always_inline int mesh_connect_elsewhere(struct bpf_sock_addr *ctx) {
  if (!mesh_connected_before(ctx)) return MESH_ALLOW;
  const __u64 cookie = bpf_get_socket_cookie(ctx);
  struct mesh_owner *record = mesh_owner_find(cookie);
  if (!record) return MESH_ALLOW;
  mesh_end_earlier(record, cookie);
  mesh_owner_free(record, cookie);
  return MESH_ALLOW;
}

/* Opens the socket's record. A full map costs the answer of getpeername() and the feedback, not the connection. */
static __always_inline void mesh_record_owner(struct bpf_sock_addr *ctx, const struct mesh_frontend_key *key,
                                              __u32 service_id, const struct mesh_choice *choice) {
  const int connected_before = mesh_connected_before(ctx);
  const __u64 cookie = bpf_get_socket_cookie(ctx);
  struct mesh_owner *record = connected_before ? mesh_owner_find(cookie) : 0;
  if (record) mesh_end_earlier(record, cookie);
  if (!record || !mesh_owner_retake(record, cookie)) record = mesh_owner_claim(cookie);
  if (!record) {
    mesh_count(MESH_REASON_OWNER_FULL);
    return;
  }
  record->service_id = service_id;
  record->backend_id = choice->backend_id;
  record->backend_generation = choice->backend_generation;
  record->frontend_port_be = key->port_be;
  record->backend_port_be = choice->port_be;
  __builtin_memcpy(record->frontend_addr, key->addr, sizeof(record->frontend_addr));
  __builtin_memcpy(record->backend_addr, choice->addr, sizeof(record->backend_addr));
  record->proto = key->proto;
  const __u8 relayed = choice->listener & MESH_BACKEND_RELAY ? MESH_OWNER_RELAY : 0;
  if (choice->flags & MESH_RANGE_FEEDBACK) {
    record->flags = MESH_OWNER_FEEDBACK | relayed;
    record->outcome = MESH_OUTCOME_NONE;
    record->connect_us = 0;
    record->start_ns = bpf_ktime_get_ns();
    record->netns_cookie = bpf_get_netns_cookie(ctx);
    record->cgroup_id = bpf_get_current_cgroup_id();
    record->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(record->comm, sizeof(record->comm));
  } else {
    record->flags = relayed;
    record->start_ns = MESH_NOW_NS();
  }
  mesh_owner_publish(record, cookie);
  mesh_owner_link_mptcp(ctx->sk, cookie);
  mesh_count_opened(choice->backend_id);
}

static __always_inline int mesh_refuse_for(__u32 service_id, int reason) {
  mesh_count_refused(service_id, reason);
  return mesh_refuse();
}

/* The mesh is switched off. What must not go without TLS does not go: nobody would tell it from what did. */
static __always_inline int mesh_connect_switched_off(struct bpf_sock_addr *ctx, enum mesh_family family) {
  struct mesh_frontend_key key __attribute__((aligned(8)));
  mesh_read_address(ctx, family, &key);
  struct mesh_service *service;
  const __u32 service_id = mesh_service_of(&key, &service);
  if (!service_id || !(service->flags & MESH_SERVICE_TLS) || mesh_denied_earlier()) return MESH_ALLOW;
  return mesh_refuse_for(service_id, MESH_REASON_TLS_PAUSED);
}

static __always_inline int mesh_connect(struct bpf_sock_addr *ctx, enum mesh_family family) {
  const struct mesh_control *control_entry = mesh_control_get();
  if (mesh_switched_off(control_entry)) return mesh_connect_switched_off(ctx, family);

  struct mesh_frontend_key key __attribute__((aligned(8)));
  mesh_read_address(ctx, family, &key);
  struct mesh_service *service;
  const __u32 service_id = mesh_service_of(&key, &service);
  if (!service_id) return mesh_connect_elsewhere(ctx);
  if (mesh_denied_earlier()) {
    mesh_count(MESH_REASON_DENIED_EARLIER);
    return MESH_ALLOW; /* the earlier verdict stands */
  }
  if (mesh_passing(MESH_READ_ONCE(service->pass_until_ns))) {
    if (service->flags & MESH_SERVICE_TLS) return mesh_refuse_for(service_id, MESH_REASON_TLS_PAUSED);
    mesh_count(MESH_REASON_PAUSED);
    MESH_COUNT_SERVICE(service_id, passed);
    return mesh_connect_elsewhere(ctx);
  }
  if (mesh_is_exempt(control_entry)) {
    mesh_count(MESH_REASON_EXEMPT);
    return mesh_connect_elsewhere(ctx);
  }

  struct mesh_choice choice = {};
  const int reason = mesh_choose(ctx, mesh_hook_client_key, service_id, 0, &choice);
  if (reason != MESH_REASON_NONE) return mesh_refuse_for(service_id, reason);
  if (choice.listener && !mesh_listener_is_there(ctx, family, &choice, key.proto)) {
    if (choice.listener & MESH_BACKEND_RELAY) return mesh_refuse_for(service_id, MESH_REASON_RELAY_ABSENT);
    mesh_count(MESH_REASON_LISTENER_ABSENT);
    MESH_COUNT_SERVICE(service_id, passed);
    return mesh_connect_elsewhere(ctx);
  }
  mesh_record_owner(ctx, &key, service_id, &choice);
  mesh_write_address(ctx, family, choice.addr, choice.port_be);
  MESH_COUNT_SERVICE(service_id, connects);
  return MESH_ALLOW;
}

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx) { return mesh_connect(ctx, MESH_V4); }

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx) { return mesh_connect(ctx, MESH_V6); }

char mesh_license[] SEC("license") = "Dual BSD/GPL";
