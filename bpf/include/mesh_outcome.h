/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The books: what connections to a backend experienced. Every record is opened once and ended once, whatever happens
 * to its socket in between, so that for each backend opened = closed + records.
 */
#ifndef MESH_OUTCOME_H
#define MESH_OUTCOME_H

#include "mesh_latency.h"
#include "mesh_owner.h"

#define MESH_NS_PER_US 1000ull

/* What the socket itself knows when its record ends; zero where it doesn't know. */
struct mesh_ending {
  __u64 bytes_out;
  __u64 bytes_in;
  __u32 retransmits;
  __u32 srtt_us;
  __u8 outcome; /* enum mesh_outcome, if none was seen before */
};

static __always_inline struct mesh_backend_live *mesh_backend_live_of(__u32 backend_id) {
  return bpf_map_lookup_elem(&backend_live, &backend_id);
}

static __always_inline struct mesh_backend_outcomes *mesh_outcomes_of(__u32 backend_id) {
  return bpf_map_lookup_elem(&backend_outcomes, &backend_id);
}

static __always_inline void mesh_count_ended(struct mesh_backend_outcomes *outcomes, __u32 outcome) {
  if (outcome < MESH_OUTCOMES) __sync_fetch_and_add(&outcomes->ended[outcome], 1);
}

/*
 * The handshake is done, and took `elapsed_us`. Once per record: programs of two builds may both see it while one
 * replaces the other.
 */
static __always_inline void mesh_record_established(struct mesh_owner *record, __u64 elapsed_us) {
  const __u32 connect_us = elapsed_us > 0xffffffff ? 0xffffffff : elapsed_us ? elapsed_us : 1;
  if (__sync_val_compare_and_swap(&record->connect_us, 0, connect_us)) return;
  struct mesh_backend_live *live = mesh_backend_live_of(record->backend_id);
  if (live) {
    __sync_fetch_and_add(&live->established, 1);
    if (MESH_READ_ONCE(live->failures_in_row)) MESH_WRITE_ONCE(live->failures_in_row, 0);
  }
  struct mesh_backend_outcomes *outcomes = mesh_outcomes_of(record->backend_id);
  if (outcomes) __sync_fetch_and_add(&outcomes->connect_us, connect_us);
  const __u32 service_id = record->service_id;
  struct mesh_service_latency *latency = bpf_map_lookup_elem(&service_latency, &service_id);
  const __u32 bucket = mesh_latency_bucket(connect_us);
  if (latency && bucket < MESH_LATENCY_BUCKETS) __sync_fetch_and_add(&latency->buckets[bucket], 1);
}

/* It failed, or was cut off: `outcome` is kept in the record if it is the first. */
static __always_inline void mesh_record_failed(struct mesh_owner *record, __u8 outcome, __u64 now_ns) {
  if (MESH_READ_ONCE(record->outcome)) return;
  MESH_WRITE_ONCE(record->outcome, outcome);
  struct mesh_backend_outcomes *outcomes = mesh_outcomes_of(record->backend_id);
  if (outcomes) mesh_count_ended(outcomes, outcome);
  if (outcome != MESH_REFUSED && outcome != MESH_TIMED_OUT && outcome != MESH_UNREACHABLE) return;
  struct mesh_backend_live *live = mesh_backend_live_of(record->backend_id);
  if (!live) return;
  __sync_fetch_and_add(&live->failed, 1);
  __sync_fetch_and_add(&live->failures_in_row, 1);
  MESH_WRITE_ONCE(live->last_failure_ns, now_ns);
  MESH_WRITE_ONCE(live->latency, mesh_latency_failure(MESH_READ_ONCE(live->latency), now_ns));
}

static __always_inline void mesh_send_event(const struct mesh_owner *record, const struct mesh_ending *ending,
                                            __u64 cookie, __u64 now_ns) {
  struct mesh_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
  if (!event) {
    mesh_count(MESH_REASON_EVENTS_DROPPED);
    return;
  }
  __builtin_memcpy(&event->owner, record, sizeof(event->owner));
  event->owner.cookie = cookie;
  event->end_ns = now_ns;
  event->bytes_out = ending->bytes_out;
  event->bytes_in = ending->bytes_in;
  event->retransmits = ending->retransmits;
  event->srtt_us = ending->srtt_us;
  bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP); /* the agent looks by itself: waking it costs more than all the rest */
}

static __always_inline void mesh_record_experience(struct mesh_owner *record, const struct mesh_ending *ending,
                                                   struct mesh_backend_live *live, __u64 cookie) {
  const __u64 now_ns = bpf_ktime_get_ns();
  if (!record->outcome) mesh_record_failed(record, ending->outcome ? ending->outcome : MESH_CLOSED, now_ns);
  const __u64 duration_us = (now_ns - record->start_ns) / MESH_NS_PER_US;
  struct mesh_backend_outcomes *outcomes = mesh_outcomes_of(record->backend_id);
  if (outcomes) {
    __sync_fetch_and_add(&outcomes->duration_us, duration_us);
    if (ending->bytes_out) __sync_fetch_and_add(&outcomes->bytes_out, ending->bytes_out);
    if (ending->bytes_in) __sync_fetch_and_add(&outcomes->bytes_in, ending->bytes_in);
    if (ending->retransmits) __sync_fetch_and_add(&outcomes->retransmits, ending->retransmits);
    if (ending->srtt_us) __sync_fetch_and_add(&outcomes->srtt_us, ending->srtt_us);
  }
  if (live && ending->srtt_us) MESH_WRITE_ONCE(live->srtt_us, ending->srtt_us);
  if (live && record->outcome == MESH_CLOSED && mesh_latency_counts(duration_us))
    MESH_WRITE_ONCE(live->latency, mesh_latency_sample(MESH_READ_ONCE(live->latency), duration_us, now_ns));
  mesh_send_event(record, ending, cookie, now_ns);
}

/* The socket is closed or goes elsewhere: the books are closed and the slot is free (or, re-used, still the caller's). */
static __always_inline void mesh_record_end(struct mesh_owner *record, const struct mesh_ending *ending, __u64 cookie) {
  struct mesh_backend_live *live = mesh_backend_live_of(record->backend_id);
  if (record->flags & MESH_OWNER_FEEDBACK) mesh_record_experience(record, ending, live, cookie);
  if (live) __sync_fetch_and_add(&live->closed, 1);
}

#endif /* MESH_OUTCOME_H */
