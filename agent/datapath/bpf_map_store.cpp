// SPDX-License-Identifier: Apache-2.0
#include "datapath/bpf_map_store.hpp"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "datapath/records.hpp"

namespace mesh::datapath {

namespace {

base::Result<void> clear_element(const MapSet& maps, Table table, std::uint32_t id) {
  const std::vector<std::byte> zeros(maps.shape(table).value_size);
  if (::bpf_map_update_elem(maps.fd(table), &id, zeros.data(), BPF_EXIST) == 0) return {};
  return base::fail_errno(errno, "clear the counters of id " + std::to_string(id));
}

/// Forgets what an earlier service with this id counted. A service that was never used costs no system call.
base::Result<void> clear_service(const MapSet& maps, std::uint32_t id) {
  const std::uint32_t shards = maps.sizes().live_shards;
  const std::size_t size = maps.stride(Table::kServiceLive) * shards;
  std::byte* live = maps.element(Table::kServiceLive, id * shards);
  if (std::all_of(live, live + size, [](std::byte one) { return one == std::byte{0}; })) return {};
  std::memset(live, 0, size);
  return clear_element(maps, Table::kServiceLatency, id);
}

}  // namespace

BpfMapStore::BpfMapStore(const MapSet& maps) : maps_(maps), sizes_(maps.sizes()) {}

base::Result<void> BpfMapStore::write_backend(std::uint32_t id, const mesh_backend& next) {
  // Counters are of an identity, not of an id. Those of an id's first one are zero: a cold load pays nothing.
  if (next.generation > 1 && next.generation != backend(id).generation) {
    MESH_CHECK(clear_element(maps_, Table::kBackendLive, id));
    MESH_CHECK(clear_element(maps_, Table::kBackendOutcomes, id));
  }
  maps_.write(Table::kBackends, id, next);
  return {};
}

base::Result<void> BpfMapStore::write_slots(std::uint32_t base, std::span<const mesh_slot> slots) {
  if (slots.empty()) return {};
  if (maps_.stride(Table::kSlots) == sizeof(mesh_slot)) {
    MESH_ASSERT(slots.size() <= sizes_.slots && base <= sizes_.slots - slots.size());
    std::memcpy(maps_.element(Table::kSlots, base), slots.data(), slots.size_bytes());
    return {};
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    maps_.write(Table::kSlots, base + static_cast<std::uint32_t>(i), slots[i]);
  }
  return {};
}

base::Result<void> BpfMapStore::write_range(std::uint32_t id, const mesh_range& range) {
  maps_.write(Table::kRanges, id, range);
  return {};
}

base::Result<void> BpfMapStore::write_service(std::uint32_t id, const mesh_service& service) {
  const mesh_service have = maps_.read<mesh_service>(Table::kServices, id);
  const bool other = (have.flags & MESH_SERVICE_IN_USE) == 0 || !same(have.frontend, service.frontend);
  if ((service.flags & MESH_SERVICE_IN_USE) != 0 && other) MESH_CHECK(clear_service(maps_, id));
  maps_.write(Table::kServices, id, service);
  return {};
}

base::Result<void> BpfMapStore::store_state(std::uint32_t service_id, std::uint64_t state) {
  maps_.store_state(service_id, state);
  return {};
}

base::Result<void> BpfMapStore::write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) {
  if (::bpf_map_update_elem(maps_.fd(Table::kFrontends), &key, &service_id, BPF_ANY) == 0) return {};
  if (errno == E2BIG) {
    return base::fail(base::ErrorKind::kExhausted,
                      "write a frontend: map frontends is full with " + std::to_string(sizes_.services) + " entries",
                      "raise agent.limits.services");
  }
  return base::fail_errno(errno, "write a frontend");
}

base::Result<void> BpfMapStore::erase_frontend(const mesh_frontend_key& key) {
  if (::bpf_map_delete_elem(maps_.fd(Table::kFrontends), &key) == 0 || errno == ENOENT) return {};
  return base::fail_errno(errno, "erase a frontend");
}

mesh_backend BpfMapStore::backend(std::uint32_t id) const { return maps_.read<mesh_backend>(Table::kBackends, id); }
mesh_slot BpfMapStore::slot(std::uint32_t index) const { return maps_.read<mesh_slot>(Table::kSlots, index); }
mesh_range BpfMapStore::range(std::uint32_t id) const { return maps_.read<mesh_range>(Table::kRanges, id); }
mesh_service BpfMapStore::service(std::uint32_t id) const { return maps_.read<mesh_service>(Table::kServices, id); }
std::uint64_t BpfMapStore::state(std::uint32_t service_id) const { return maps_.load_state(service_id); }

base::Result<void> BpfMapStore::for_each_frontend(
    const std::function<void(const mesh_frontend_key&, std::uint32_t service_id)>& visit) const {
  return scan_hash(maps_.fd(Table::kFrontends), maps_.shape(Table::kFrontends),
                   [&](const std::byte* key, const std::byte* value) {
                     mesh_frontend_key frontend;
                     std::uint32_t service_id = 0;
                     std::memcpy(&frontend, key, sizeof(frontend));
                     std::memcpy(&service_id, value, sizeof(service_id));
                     visit(frontend, service_id);
                   });
}

}  // namespace mesh::datapath
