// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Where would this connect() go? The pick of the hooks on the live tables, for a client that is described instead of
 * present. Counts nothing, moves no cursor, remembers nothing.
 *
 * Why here: an answer computed again in user space would be another implementation, and could lie.
 * Call path: BPF_PROG_TEST_RUN of a syscall program.
 * Minimum kernel: 5.14; the loader leaves it out before.
 * Agent dead: not there; `meshd dump` shows the tables.
 */
#define MESH_NOW_NS() bpf_ktime_get_ns()
#include "mesh_explain.h"
#include "mesh_hook.h"

static __always_inline __u64 mesh_explain_client_key(void *context, __u8 hash_key) {
  const struct mesh_explain *explain = context;
  const __u64 *source = (const __u64 *)explain->source_addr;
  switch (hash_key) {
    case MESH_KEY_CGROUP:
      return explain->cgroup_id;
    case MESH_KEY_UID:
      return explain->uid;
    case MESH_KEY_SOURCE_ADDRESS:
      return mesh_address_key(source[0], source[1]);
    default:
      return explain->netns_cookie;
  }
}

/* Always inline: the verifier takes stores to a context at constant offsets only. */
static __always_inline void mesh_explain_load(__u32 backend_id, struct mesh_load *out) {
  struct mesh_load load = {};
  mesh_look_up_load(backend_id, MESH_NOW_NS(), &load);
  load.backend_id = backend_id;
  *out = load;
}

SEC("syscall")
int mesh_explain_pick(struct mesh_explain *explain) {
  const struct mesh_control *control_entry = mesh_control_get();
  struct mesh_frontend_key key __attribute__((aligned(8))) = explain->frontend;
  struct mesh_service *service;
  const __u32 service_id = mesh_service_of(&key, &service);
  explain->service_id = service_id;
  if (!service_id) return 0;
  if (mesh_switched_off(control_entry) || mesh_passing(MESH_READ_ONCE(service->pass_until_ns))) {
    explain->reason = service->flags & MESH_SERVICE_TLS ? MESH_REASON_TLS_PAUSED : MESH_REASON_PAUSED;
    return 0;
  }
  struct mesh_choice choice = {};
  explain->reason = mesh_choose(explain, mesh_explain_client_key, service_id, MESH_CHOOSE_DRY, &choice);
  explain->range_id = choice.range_id;
  explain->algorithm = choice.algorithm;
  explain->hash_key = choice.hash_key;
  if (explain->reason != MESH_REASON_NONE) return 0;
  explain->backend_id = choice.backend_id;
  explain->backend_generation = choice.backend_generation;
  __builtin_memcpy(explain->backend_addr, choice.addr, sizeof(choice.addr));
  explain->backend_port_be = choice.port_be;
  explain->by_affinity = choice.by_affinity;
  mesh_explain_load(choice.compared[0], &explain->compared[0]);
  mesh_explain_load(choice.compared[1], &explain->compared[1]);
  return 0;
}

char mesh_license[] SEC("license") = "Dual BSD/GPL";
