// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Readers for the I2 test: the pick of the hooks with a widened read window, and beside it the design that was not
 * taken, which flips the value of a hash element. Both say how often they met something that was not theirs.
 */
#define MESH_NOW_NS() bpf_ktime_get_ns()
/* About half a microsecond between two reads: room for an update, or for several. */
#define MESH_TICK() bpf_ktime_get_ns()
#define MESH_READ_WINDOW()                                                                                  \
  do {                                                                                                      \
    MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(); \
    MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(), MESH_TICK(); \
  } while (0)

#include "hammer.h"

#include "mesh_balance.h"

/* A reader in a hook holds off the reuse of what it reads; a syscall program must say so. */
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, struct mesh_frontend_key);
  __type(value, struct hammer_naive);
} naive SEC(".maps");

static __u64 no_client_key(void* context, __u8 hash_key) { return bpf_get_prandom_u32(); }

/* Every byte of a backend's IPv4 address in this test is the mark of its service. */
static void judge(struct hammer* hammer, const __u8* address) {
  hammer->picks++;
  if (address[12] != address[13] || address[13] != address[14] || address[14] != address[15])
    hammer->torn++;
  else if (address[12] != hammer->mark)
    hammer->foreign++;
}

static long read_once(__u32 turn, struct hammer* hammer) {
  struct mesh_frontend_key key __attribute__((aligned(8))) = hammer->frontend;
  struct mesh_choice choice = {};
  struct mesh_service* service;
  bpf_rcu_read_lock();
  const __u32 service_id = mesh_service_of(&key, &service);
  const int reason = service_id ? mesh_choose(0, no_client_key, service_id, 0, &choice) : MESH_REASON_FOREIGN_FRONTEND;
  bpf_rcu_read_unlock();
  if (reason != MESH_REASON_NONE)
    hammer->refused++;
  else
    judge(hammer, choice.addr);
  return 0;
}

static long read_naive_once(__u32 turn, struct hammer* hammer) {
  struct mesh_frontend_key key __attribute__((aligned(8))) = hammer->frontend;
  __u8 address[16] = {};
  bpf_rcu_read_lock();
  const struct hammer_naive* record = bpf_map_lookup_elem(&naive, &key);
  if (record) {
    address[12] = MESH_READ_ONCE(record->address[0]);
    address[13] = MESH_READ_ONCE(record->address[1]);
    MESH_READ_WINDOW();
    address[14] = MESH_READ_ONCE(record->address[2]);
    address[15] = MESH_READ_ONCE(record->address[3]);
  }
  bpf_rcu_read_unlock();
  if (record)
    judge(hammer, address);
  else
    hammer->refused++;
  return 0;
}

SEC("syscall")
int hammer_mesh(struct hammer* context) {
  struct hammer hammer = *context;
  bpf_loop(hammer.turns, read_once, &hammer, 0);
  *context = hammer;
  return 0;
}

SEC("syscall")
int hammer_hash(struct hammer* context) {
  struct hammer hammer = *context;
  bpf_loop(hammer.turns, read_naive_once, &hammer, 0);
  *context = hammer;
  return 0;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
