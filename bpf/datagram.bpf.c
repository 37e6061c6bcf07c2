// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * sendto(2) and recvfrom(2) on UDP: services for sockets that don't connect().
 *
 * Why here: an unconnected socket names its destination with every datagram and expects the answer from there. sendmsg
 * chooses a backend per service and socket and keeps it while it is usable; recvmsg gives the answer the service's
 * address again. What a socket sent where is in its own storage, which dies with it.
 * Call path: udp_sendmsg() and udpv6_sendmsg() with an address -> cgroup; udp_recvmsg() and udpv6_recvmsg() where the
 * application asked for the sender. On an AF_INET6 socket that talks IPv4, sendmsg4 fires and then recvmsg6 with
 * ::ffff:a.b.c.d; so both look into the same storage with 16-byte addresses.
 * Minimum kernel: 5.12, as connect.
 * Agent dead: the tables of the last plan stay in force; known peers are translated as before.
 * Counted: per service datagrams, refused, passed; UDP_PEERS_FULL, UDP_STORAGE in `reasons`.
 * Limits: a socket remembers MESH_UDP_PEERS services and the last two backends of each. Two services with one and the
 * same backend address, used from one socket: an answer is said to come from the one that was used first.
 */
#include "mesh_listener.h"

/*
 * Where the socket keeps a service, or where there is room for it; MESH_UDP_PEERS if there is none. Entries are taken in
 * order and never given back.
 * VERIFIER: a global function is verified once for any argument and returns just a number; inlined, everything after
 * the loop would be verified again for each way out of it (150 ms instead of 5).
 */
__attribute__((noinline)) __u32 mesh_find_peer(const struct mesh_udp_peers *peers, __u32 service_id) {
  if (!peers) return MESH_UDP_PEERS;
  for (__u32 i = 0; i < MESH_UDP_PEERS; i++) {
    const __u32 taken_by = peers->peers[i].service_id;
    if (taken_by == service_id || !taken_by) return i;
  }
  return MESH_UDP_PEERS;
}

/* The socket's entry for a service: an old one, a free one, or the one whose turn it is to be forgotten. */
static __always_inline struct mesh_udp_peer *mesh_peer_for(struct mesh_udp_peers *peers, __u32 service_id) {
  __u32 index = mesh_find_peer(peers, service_id);
  if (index >= MESH_UDP_PEERS) {
    mesh_count(MESH_REASON_UDP_PEERS_FULL);
    index = peers->next % MESH_UDP_PEERS;
    peers->next = index + 1;
  }
  struct mesh_udp_peer *peer = &peers->peers[index % MESH_UDP_PEERS];
  if (peer->service_id != service_id) *peer = (struct mesh_udp_peer){.service_id = service_id};
  return peer;
}

static __always_inline int mesh_send(struct bpf_sock_addr *ctx, enum mesh_family family) {
  const struct mesh_control *control_entry = mesh_control_get();
  if (mesh_switched_off(control_entry)) return MESH_ALLOW;

  struct mesh_frontend_key key __attribute__((aligned(8)));
  mesh_read_address(ctx, family, &key);
  struct mesh_service *service;
  const __u32 service_id = mesh_service_of(&key, &service);
  if (!service_id) return MESH_ALLOW;
  if (mesh_denied_earlier()) {
    mesh_count(MESH_REASON_DENIED_EARLIER);
    return MESH_ALLOW;
  }
  if (mesh_passing(MESH_READ_ONCE(service->pass_until_ns))) {
    mesh_count(MESH_REASON_PAUSED);
    MESH_COUNT_SERVICE(service_id, passed);
    return MESH_ALLOW;
  }
  if (mesh_is_exempt(control_entry)) {
    mesh_count(MESH_REASON_EXEMPT);
    return MESH_ALLOW;
  }

  struct mesh_choice choice = {};
  struct mesh_udp_peers *peers = 0;
  struct bpf_sock *sk = ctx->sk;
  if (sk) peers = bpf_sk_storage_get(&udp_peers, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  struct mesh_udp_peer *peer = peers ? mesh_peer_for(peers, service_id) : 0;
  if (!peer) mesh_count(MESH_REASON_UDP_STORAGE);
  if (!peer || !mesh_take_remembered(service_id, peer->backend_id, peer->backend_generation, &choice)) {
    const int reason = mesh_choose(ctx, mesh_hook_client_key, service_id, 0, &choice);
    if (reason != MESH_REASON_NONE) {
      mesh_count_refused(service_id, reason);
      return mesh_refuse();
    }
    if (peer && (peer->backend_id != choice.backend_id || peer->backend_generation != choice.backend_generation)) {
      peer->previous_id = peer->backend_id;
      peer->previous_generation = peer->backend_generation;
      peer->backend_id = choice.backend_id;
      peer->backend_generation = choice.backend_generation;
    }
  }
  if (choice.listener && !mesh_listener_is_there(ctx, family, &choice, MESH_IPPROTO_UDP)) {
    mesh_count(MESH_REASON_LISTENER_ABSENT);
    MESH_COUNT_SERVICE(service_id, passed);
    return MESH_ALLOW;
  }
  mesh_write_address(ctx, family, choice.addr, choice.port_be);
  MESH_COUNT_SERVICE(service_id, datagrams);
  return MESH_ALLOW;
}

/* Is this peer the given backend of the service, as it was when the socket sent to it? */
static __always_inline int mesh_is_backend(const struct mesh_frontend_key *peer, __u32 service_id, __u32 backend_id,
                                           __u32 generation) {
  const struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  return backend && backend_id && backend->port_be == peer->port_be && backend->service_id == service_id &&
         backend->generation == generation && !__builtin_memcmp(backend->addr, peer->addr, sizeof(peer->addr));
}

/* The service whose backend, current or previous, this peer is; 0 if the socket did not send to it. */
__attribute__((noinline)) __u32 mesh_find_sender(const struct mesh_udp_peers *peers,
                                                 const struct mesh_frontend_key *from) {
  if (!peers || !from) return 0;
  for (__u32 i = 0; i < MESH_UDP_PEERS; i++) {
    const struct mesh_udp_peer *peer = &peers->peers[i];
    const __u32 service_id = peer->service_id;
    if (!service_id) return 0;
    if (mesh_is_backend(from, service_id, peer->backend_id, peer->backend_generation) ||
        mesh_is_backend(from, service_id, peer->previous_id, peer->previous_generation))
      return service_id;
  }
  return 0;
}

/* Replaces the backend's address by the service's if the socket sent to it without connect(). */
static __always_inline int mesh_peers_translate(const struct mesh_udp_peers *peers, struct mesh_frontend_key *from) {
  const __u32 service_id = mesh_find_sender(peers, from);
  if (!service_id) return 0;
  const struct mesh_service *service = bpf_map_lookup_elem(&services, &service_id);
  if (!service || !(service->flags & MESH_SERVICE_IN_USE)) return 0;
  *from = service->frontend;
  return 1;
}

static __always_inline int mesh_receive(struct bpf_sock_addr *ctx, enum mesh_family family, enum mesh_move move) {
  if (mesh_switched_off(mesh_control_get())) return MESH_ALLOW;
  struct mesh_frontend_key from __attribute__((aligned(8)));
  mesh_read_address(ctx, family, &from);
  struct bpf_sock *sk = ctx->sk;
  struct mesh_udp_peers *peers = sk ? bpf_sk_storage_get(&udp_peers, sk, 0, 0) : 0;
  if ((peers && mesh_peers_translate(peers, &from)) || mesh_owner_translate(bpf_get_socket_cookie(ctx), &from, move))
    mesh_write_address(ctx, family, from.addr, from.port_be);
  return MESH_ALLOW;
}

SEC("cgroup/sendmsg4")
int mesh_sendmsg4(struct bpf_sock_addr *ctx) { return mesh_send(ctx, MESH_V4); }

SEC("cgroup/sendmsg6")
int mesh_sendmsg6(struct bpf_sock_addr *ctx) { return mesh_send(ctx, MESH_V6); }

SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx) { return mesh_receive(ctx, MESH_V4, MESH_SETTLED); }

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx) { return mesh_receive(ctx, MESH_V6, MESH_SETTLED); }

/* In their place while the owner map is being moved. */
SEC("cgroup/recvmsg4")
int mesh_mv_recv4(struct bpf_sock_addr *ctx) { return mesh_receive(ctx, MESH_V4, MESH_MOVING); }

SEC("cgroup/recvmsg6")
int mesh_mv_recv6(struct bpf_sock_addr *ctx) { return mesh_receive(ctx, MESH_V6, MESH_MOVING); }

char mesh_license[] SEC("license") = "Dual BSD/GPL";
