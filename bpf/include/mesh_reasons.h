/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Why something did not go the ordinary way: one list for BPF counters, the CLI and Prometheus. Values are stable
 * (they index a pinned map): append only.
 * X(ENUM_NAME, "metric_label", "what it means, for people")
 */
#ifndef MESH_REASONS_H
#define MESH_REASONS_H

#define MESH_REASONS(X)                                                                                            \
  X(NONE, "none", "nothing to report")                                                                             \
  X(NO_BACKEND, "no_backend", "the service has no usable backend; refused")                                        \
  X(STATE_ZERO, "state_zero", "the service has no table yet or its table entry is zeroed; refused")                \
  X(STALE_SLOT, "stale_slot", "a slot named another service's backend twice in a row; refused")                    \
  X(BAD_RANGE, "bad_range", "a table entry is outside the maps; refused")                                          \
  X(FOREIGN_FRONTEND, "foreign_frontend", "a recycled frontend entry was recognised; treated as no service")       \
  X(PAUSED, "paused", "passed untouched: the service is paused; a pause of the whole mesh is not counted")         \
  X(EXEMPT, "exempt", "passed untouched: a connection of the agent or the relay")                                  \
  X(DENIED_EARLIER, "denied_earlier", "another program on the cgroup denied it before us; left alone")             \
  X(OWNER_FULL, "owner_full", "no room for the socket's record; balanced, but getpeername() shows the backend")    \
  X(AFFINITY_FULL, "affinity_full", "no room for a session affinity entry; balanced without it")                   \
  X(UDP_PEERS_FULL, "udp_peers_full", "an unconnected UDP socket forgot its oldest service to remember a new one") \
  X(UDP_STORAGE, "udp_storage", "no socket storage for an unconnected UDP socket; replies are not translated")     \
  X(RETRIED, "retried", "a slot was read while its table was being replaced; looked up again")                     \
  X(OWNER_LEFT, "owner_left", "the record of a socket that closed or went elsewhere could not be deleted")         \
  X(EVENTS_DROPPED, "events_dropped",                                                                              \
    "no room in the ring buffer for the sample of an ended connection; counters are whole")                        \
  X(LISTENER_ABSENT, "listener_absent", "passed untouched: the agent does not answer in this network namespace")   \
  X(RELAY_ABSENT, "relay_absent",                                                                                  \
    "the relay does not listen in this network namespace; refused, not sent without TLS")                          \
  X(TLS_PAUSED, "tls_paused", "paused, but the service must not be reached without TLS; refused")

enum mesh_reason {
#define MESH_REASON_ENUM(name, label, text) MESH_REASON_##name,
  MESH_REASONS(MESH_REASON_ENUM)
#undef MESH_REASON_ENUM
      MESH_REASON_COUNT
};

#define MESH_REASONS_MAX 64 /* size of the map: room to grow without a new layout */

#endif /* MESH_REASONS_H */
