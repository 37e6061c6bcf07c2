/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel programs and the agent share: keys, values, limits. The only place for shared structs; compiled as C
 * for BPF and as C++ for the agent. No struct has hidden padding (checked at the end for C++).
 *
 * Addresses are 16 bytes in network order, IPv4 as v4-mapped. A field that ends in _be is in network order; every
 * other number is in host order. Id 0 is never real: a zeroed element is an error that is counted and refused.
 *
 * Tables, in the order in which a connect() reads them:
 *   control        ARRAY[1]  struct mesh_control           pass-through switch, read first
 *   frontends      HASH      mesh_frontend_key -> u32      service_id; written only when a service appears or goes
 *   services       ARRAY     service_id -> mesh_service    whose frontend it is: compared, so a recycled hash element
 *                                                          can't lend a reader another service's id
 *   service_state  ARRAY     service_id -> u64             generation << 32 | range_id: ONE aligned store flips a service
 *   ranges         ARRAY     range_id -> mesh_range        immutable while a state may still name it
 *   slots          ARRAY     arena of mesh_slot
 *   backends       ARRAY     backend_id -> mesh_backend
 * Counters: service_live (mapped by the agent), backend_live and backend_outcomes (read by element), service_latency,
 * reasons (per CPU). Samples: events (ring buffer).
 * Per socket: owner (ARRAY, found by the socket's cookie; mesh_owner.h), udp_peers and mptcp_owner (socket storage).
 * Per client: affinity (HASH). While connections are reset: doomed (HASH, not pinned).
 * Before workloads of the mesh: guarded and guard_counts (HASH, not pinned; guard.bpf.c).
 *
 * Layout compatibility: structs only grow at their end, and then MESH_LAYOUT_MINOR grows. A loader moves the contents
 * of maps between minors element by element (the common prefix is copied, the rest is zero), in both directions. Any
 * other change raises MESH_LAYOUT_MAJOR, which a loader refuses to migrate.
 */
#ifndef MESH_ABI_H
#define MESH_ABI_H

#include <linux/types.h>

#define MESH_LAYOUT_MAGIC 0x6d657368u /* "mesh" */
#define MESH_LAYOUT_MAJOR 2
#ifndef MESH_LAYOUT_MINOR /* the upgrade tests build a second layout */
#define MESH_LAYOUT_MINOR 0
#endif

/* Limits of the format itself. Map sizes are configuration; see agent/datapath/tables.hpp. */
#define MESH_RANGE_EMPTY 1u                /* the shared range with count 0: "no usable backend", refuse */
#define MESH_UDP_PEERS 32u                 /* services one unconnected UDP socket remembers a backend for */
#define MESH_LIVE_SHARDS_MAX 8u            /* shards of service_live, to keep CPUs off one cache line */
#define MESH_OWNER_WAYS 32u                /* slots of `owner` that may hold a given cookie's record */
#define MESH_OWNER_BUSY (1ull << 63)       /* flipped in mesh_owner.cookie: being written; mesh_owner_is_busy() */
#define MESH_LATENCY_BUCKETS 24u           /* bucket i counts latencies below 2^(i+1) us, the last all others */
#define MESH_COMM_SIZE 16u                 /* TASK_COMM_LEN */
#define MESH_FOREVER 0xffffffffffffffffull /* in pass_until_ns */

/* Values are stable: they are in pinned maps. */
enum mesh_algorithm {
  MESH_WEIGHTED_RANDOM = 1,   /* alias table: count entries of two slots each */
  MESH_ROUND_ROBIN = 2,       /* count slots in smooth weighted order, one shared cursor per service */
  MESH_MAGLEV = 3,            /* count slots (a prime), indexed by the hash of the client key */
  MESH_SOURCE_HASH = 4,       /* the slots of round robin, indexed by the hash of the client key */
  MESH_LEAST_CONNECTIONS = 5, /* two draws from the alias table; the one with fewer open connections (mesh_load.h) */
  MESH_LATENCY = 6,           /* two draws likewise; the one with the lower peak EWMA x open connections */
};

/* Two where the range is an alias table. */
static inline __u32 mesh_slots_per_entry(__u8 algorithm) {
  return algorithm == MESH_WEIGHTED_RANDOM || algorithm == MESH_LEAST_CONNECTIONS || algorithm == MESH_LATENCY ? 2 : 1;
}

/*
 * Is the record of a slot with this cookie being written? The kernel counts cookies up from 0, and down from 2^64 where
 * it was interrupted in doing so (include/linux/cookie.h): their two highest bits are equal.
 */
static inline int mesh_owner_is_busy(__u64 cookie) { return (cookie ^ cookie << 1) >> 63; }

/* How a connection ended, or failed. */
enum mesh_outcome {
  MESH_OUTCOME_NONE = 0, /* lives, or nothing is known */
  MESH_CLOSED = 1,       /* ordinary close */
  MESH_REFUSED = 2,      /* connect: ECONNREFUSED; UDP: ICMP port unreachable */
  MESH_TIMED_OUT = 3,    /* connect: ETIMEDOUT, or given up while SYNs stayed unanswered */
  MESH_UNREACHABLE = 4,  /* connect: any other error (EHOSTUNREACH, ENETUNREACH, ...) */
  MESH_ABORTED = 5,      /* the application gave up before it was established and before a SYN was repeated */
  MESH_RESET = 6,        /* established, then reset by the peer */
  MESH_LOST = 7,         /* established, then timed out or became unreachable */
  MESH_RESET_BY_US = 8,  /* closed with unread data or linger 0: the peer gets a reset */
  MESH_KILLED = 9,       /* destroyed on this host (drain, `ss -K`), established or not: ECONNABORTED */
  MESH_OUTCOMES
};

enum mesh_hash_key {
  MESH_KEY_NAMESPACE = 1,      /* network namespace cookie: a pod, or the host */
  MESH_KEY_CGROUP = 2,         /* cgroup id of the calling task */
  MESH_KEY_UID = 3,            /* user id of the calling task (the real one: the kernel gives no other) */
  MESH_KEY_SOURCE_ADDRESS = 4, /* the address the socket is bound to; all unbound sockets share one key */
};

struct mesh_frontend_key {
  __u8 addr[16];
  __be16 port_be;
  __u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
  __u8 zero;
};

#define MESH_SERVICE_IN_USE 1u
#define MESH_SERVICE_TLS 2u /* nothing goes to it without TLS: what would pass untouched is refused */

struct mesh_service {
  struct mesh_frontend_key frontend;
  __u32 flags;         /* MESH_SERVICE_* */
  __u64 pass_until_ns; /* CLOCK_MONOTONIC; connects pass untouched until then. 0: not paused, MESH_FOREVER: for good */
};

#define MESH_RANGE_FEEDBACK 1u /* watch what connections experience */

struct mesh_range {
  __u32 base;  /* first slot */
  __u32 count; /* entries; an entry of an alias table is two slots */
  __u32 service_id;
  __u32 seed;               /* of the hash of the client key */
  __u32 affinity_timeout_s; /* 0: no session affinity */
  __u8 algorithm;           /* enum mesh_algorithm */
  __u8 hash_key;            /* enum mesh_hash_key, for maglev, source hash and affinity */
  __u16 flags;              /* MESH_RANGE_* */
  __u64 reserved;
};

/*
 * An alias table: entry i is slots base + 2i and base + 2i + 1. The first holds {backend_id, service_id}, the second
 * {alias backend_id, threshold}: draw a 32-bit number; below the threshold takes the first, else the alias. A threshold
 * of 0xffffffff always takes the first. The other algorithms: slot base + i holds {backend_id, service_id}.
 */
struct mesh_slot {
  __u32 backend_id;
  __u32 tag; /* service_id, or the threshold in the second slot of an entry of an alias table */
};

#define MESH_BACKEND_USABLE 1u   /* may get new connections: affinity and UDP peers look at it, tables need not */
#define MESH_BACKEND_EJECTED 2u  /* not usable, by its connections' experience: the next agent has to know it */
#define MESH_BACKEND_LISTENER 4u /* a socket of the agent; where it has none, connections pass untouched */
#define MESH_BACKEND_RELAY 8u    /* likewise of the relay; where it has none, connections are refused */

struct mesh_backend {
  __u8 addr[16];
  __be16 port_be;
  __u16 weight; /* relative, as its share of the table; of one that gets nothing, as configured */
  __u32 service_id;
  __u32 generation; /* grows each time the id gets a new identity */
  __u32 flags;      /* MESH_BACKEND_* */
#if MESH_LAYOUT_MINOR >= 1
  __u64 next_reserved;
#endif
};

/*
 * One cache line each: what a choice between backends reads. Only connect() and connected sockets count here: opened =
 * closed + open connections, of the identity that has the id (the agent zeroes it before it gives the id away again).
 */
struct mesh_backend_live {
  __u64 opened;          /* connect()s sent there */
  __u64 closed;          /* of them: sockets that were closed or connected anew */
  __u64 established;     /* TCP handshakes done; counted with feedback, as all that follows */
  __u64 failed;          /* connect()s that failed: refused, timed out, unreachable */
  __u64 latency;         /* peak EWMA: value << 32 | stamp; mesh_latency.h */
  __u64 last_failure_ns; /* CLOCK_MONOTONIC */
  __u32 failures_in_row; /* since the last established connection */
  __u32 srtt_us;         /* of the connection that was closed last */
  __u64 reserved;
};

/* What connections to a backend experienced; written when one fails or ends, with feedback. */
struct mesh_backend_outcomes {
  __u64 ended[MESH_OUTCOMES]; /* a failed connect() is counted when it fails, not when it is closed */
  __u64 bytes_out;            /* TCP payload that the application wrote */
  __u64 bytes_in;             /* TCP payload that arrived */
  __u64 retransmits;          /* TCP segments */
  __u64 connect_us;           /* sum of connect latencies, over backend_live.established */
  __u64 duration_us;          /* sum from connect() to close, over ended connections */
  __u64 srtt_us;              /* sum of the last srtt of established connections */
};

struct mesh_service_latency { /* index: service_id; connect latency of established TCP connections, with feedback */
  __u64 buckets[MESH_LATENCY_BUCKETS];
};

struct mesh_service_live { /* index: service_id * shards + (cpu & (shards - 1)) */
  __u64 cursor;            /* round robin; shard 0 only */
  __u64 connects;          /* TCP and UDP connect() sent to a backend */
  __u64 datagrams;         /* unconnected UDP sends sent to a backend */
  __u64 refused;           /* refused for whatever reason; the reason is in `reasons` */
  __u64 refused_no_backend;
  __u64 passed; /* let through because the service is paused */
  __u64 affinity_hits;
  __u64 reserved;
};

/*
 * The record of a balanced socket: two cache lines, the second of which is written with feedback only. Index: see
 * mesh_owner.h. A cookie of 0 is a free slot. A reader outside the kernel copies the record and believes it if the
 * cookie is the same, and not busy, before and after.
 */
struct mesh_owner {
  __u64 cookie;
  __u64 start_ns; /* CLOCK_MONOTONIC of connect(); to the tick (1 to 10 ms) without feedback */
  __u32 service_id;
  __u32 backend_id;
  __u32 backend_generation;
  __be16 frontend_port_be;
  __be16 backend_port_be;
  __u8 frontend_addr[16]; /* what the application asked for */
  __u8 backend_addr[16];  /* where it went */
  __u64 netns_cookie;
  __u64 cgroup_id;
  __u32 pid; /* thread group id of the caller */
  __u8 proto;
  __u8 flags;   /* MESH_OWNER_* */
  __u8 outcome; /* enum mesh_outcome, once it is known */
  __u8 reserved;
  __u32 connect_us; /* from connect() to established, at least 1; 0: not established */
  __u32 reserved1;
  char comm[MESH_COMM_SIZE]; /* of the calling task */
  __u64 reserved2[2];
#if MESH_LAYOUT_MINOR >= 1
  __u64 next_reserved;
#endif
};

#define MESH_OWNER_FEEDBACK 1u /* the second line is filled, and what happens to the socket is counted */
#define MESH_OWNER_RELAY 2u    /* it went to the relay, which goes on from there */

/* Samples, best effort: an event is lost when the ring is full (EVENTS_DROPPED), counters are not. One per connection,
 * when its record ends. */
struct mesh_event {
  struct mesh_owner owner; /* with its outcome */
  __u64 end_ns;            /* CLOCK_MONOTONIC */
  __u64 bytes_out;
  __u64 bytes_in;
  __u32 retransmits;
  __u32 srtt_us; /* 0: none */
};

struct mesh_affinity_key {
  __u64 client; /* value of the service's hash key */
  __u32 service_id;
  __u32 zero;
};

struct mesh_affinity {
  __u64 last_used_ns; /* CLOCK_MONOTONIC */
  __u64 backend;      /* generation << 32 | backend_id: one aligned store */
};

struct mesh_udp_peer {
  __u32 service_id; /* 0: free */
  __u32 backend_id;
  __u32 backend_generation;
  __u32 previous_id; /* backend before the last change, so that its late replies still translate */
  __u32 previous_generation;
  __u32 reserved;
};

struct mesh_udp_peers { /* socket storage of a UDP socket that sent to at least one service without connect() */
  struct mesh_udp_peer peers[MESH_UDP_PEERS];
  __u32 next; /* the slot that is replaced next when all are taken; the loss is counted */
  __u32 reserved;
};

/* A socket that is to be destroyed, by its cookie, if it is still this backend's. */
struct mesh_doomed {
  __u32 backend_id;
  __u32 backend_generation;
  __u32 outcome; /* MESH_DOOMED_*; 0: not met yet */
  __u32 reserved;
};

#define MESH_DOOMED_KILLED 1u
#define MESH_DOOMED_REFUSED 2u /* by the kernel */
#define MESH_DOOMED_MAX 16384u /* sockets of one pass; more take more passes */

/* An endpoint on this host that plaintext is counted or refused at. */
struct mesh_guard_key {
  __u8 addr[16];
  __be16 port_be;
  __u16 zero;
};

struct mesh_guarded {
  __u64 until_ns; /* CLOCK_BOOTTIME; plaintext is taken until then. 0: never, MESH_FOREVER: for good */
  __u32 service;  /* its key in guard_counts */
  __u32 zero;
};

struct mesh_guard_counts { /* of a service, per CPU */
  __u64 taken;
  __u64 refused;
  __u64 seen_ns; /* CLOCK_BOOTTIME, of the last one */
  __u8 source[16];
};

#define MESH_GUARDED_MAX 65536u        /* endpoints */
#define MESH_GUARD_SERVICES_MAX 10000u /* as many as the mesh may have */

struct mesh_control {
  __u32 magic;
  __u16 layout_major;
  __u16 layout_minor;
  __u64 pass_until_ns;    /* pass-through switch; as in mesh_service */
  __u64 exempt_cgroup_id; /* the agent's own leaf cgroup: never redirected. 0: none */
  __u64 generation;       /* of the last plan that was applied whole */
  __u64 applied_wall_ns;  /* when; CLOCK_REALTIME */
  __u64 agent_start_wall_ns;
  __u32 agent_pid; /* of the last agent that held these maps, in its own pid namespace */
  __u32
      exempt_relay_cgroup; /* the relay's cgroup, likewise: the lower half of its id, which no two cgroups share. 0: none */
  char holder[96];         /* bpffs directory these maps are pinned in, zero-terminated */
  char version[32];        /* of that agent, zero-terminated */
};

#ifdef __cplusplus
#include <type_traits>
#define MESH_NO_PADDING(type) static_assert(std::has_unique_object_representations_v<type>, #type " has hidden padding")
MESH_NO_PADDING(mesh_frontend_key);
MESH_NO_PADDING(mesh_service);
MESH_NO_PADDING(mesh_range);
MESH_NO_PADDING(mesh_slot);
MESH_NO_PADDING(mesh_backend);
MESH_NO_PADDING(mesh_backend_live);
MESH_NO_PADDING(mesh_service_live);
MESH_NO_PADDING(mesh_backend_outcomes);
MESH_NO_PADDING(mesh_service_latency);
MESH_NO_PADDING(mesh_owner);
MESH_NO_PADDING(mesh_event);
MESH_NO_PADDING(mesh_affinity_key);
MESH_NO_PADDING(mesh_affinity);
MESH_NO_PADDING(mesh_udp_peer);
MESH_NO_PADDING(mesh_udp_peers);
MESH_NO_PADDING(mesh_doomed);
MESH_NO_PADDING(mesh_guard_key);
MESH_NO_PADDING(mesh_guarded);
MESH_NO_PADDING(mesh_guard_counts);
MESH_NO_PADDING(mesh_control);
#undef MESH_NO_PADDING
static_assert(sizeof(mesh_frontend_key) == 20 && sizeof(mesh_service) == 32 && sizeof(mesh_range) == 32);
static_assert(sizeof(mesh_slot) == 8 && (MESH_LAYOUT_MINOR > 0 || sizeof(mesh_backend) == 32));
static_assert(MESH_LAYOUT_MINOR > 0 || sizeof(mesh_owner) == 128);
static_assert(sizeof(mesh_backend_outcomes) == 128);
static_assert(sizeof(mesh_backend_live) == 64 && sizeof(mesh_service_live) == 64);
#endif

#endif /* MESH_ABI_H */
