// SPDX-License-Identifier: Apache-2.0
#include "datapath/inspect.hpp"

namespace mesh::datapath {
namespace {

constexpr std::uint32_t kAlwaysFirst = 0xffffffff;
constexpr double kThresholdRange = 4294967296.0;  // thresholds are compared with a 32-bit draw

}  // namespace

BackendIndex::BackendIndex(const MapStore& store) {
  for (std::uint32_t id = 1; id < store.sizes().backends; ++id) {
    const mesh_backend backend = store.backend(id);
    if (backend.service_id == 0) continue;
    by_service_[backend.service_id].push_back({id, backend});
    ++size_;
  }
}

const std::vector<BackendIndex::Entry>& BackendIndex::of(std::uint32_t service_id) const {
  static const std::vector<Entry> kNone;
  const auto found = by_service_.find(service_id);
  return found == by_service_.end() ? kNone : found->second;
}

ServiceTables read_service_tables(const MapStore& store, std::uint32_t service_id) {
  const std::uint64_t state = store.state(service_id);
  ServiceTables tables;
  tables.generation = static_cast<std::uint32_t>(state >> 32);
  tables.range_id = static_cast<std::uint32_t>(state);
  if (tables.range_id == 0 || tables.range_id >= store.sizes().ranges) return tables;
  tables.range = store.range(tables.range_id);
  const mesh_range& range = tables.range;
  const std::uint32_t slots_per_entry = mesh_slots_per_entry(range.algorithm);
  if (range.count == 0 ||
      std::uint64_t{range.base} + std::uint64_t{range.count} * slots_per_entry > store.sizes().slots) {
    return tables;
  }
  const double entry_share = 1.0 / range.count;
  for (std::uint32_t entry = 0; entry < range.count; ++entry) {
    const mesh_slot first = store.slot(range.base + entry * slots_per_entry);
    if (slots_per_entry == 1) {
      tables.shares[first.backend_id] += entry_share;
      continue;
    }
    const mesh_slot alias = store.slot(range.base + entry * 2 + 1);
    const double taken = alias.tag == kAlwaysFirst ? 1.0 : alias.tag / kThresholdRange;
    tables.shares[first.backend_id] += entry_share * taken;
    if (taken < 1.0) tables.shares[alias.backend_id] += entry_share * (1.0 - taken);
  }
  return tables;
}

}  // namespace mesh::datapath
