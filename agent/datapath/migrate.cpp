// SPDX-License-Identifier: Apache-2.0
#include "datapath/migrate.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <string>

#include "datapath/owners.hpp"

namespace mesh::datapath {
namespace {

base::Result<void> check_table(Table table, std::uint64_t need, const TableSizes& sizes) {
  const std::uint32_t size = entries_of(table, sizes);
  if (need <= size) return {};
  const std::string setting(setting_of(table));
  return base::fail(base::ErrorKind::kExhausted,
                    "move map " + std::string(to_string(table)) + ": " + std::to_string(need) +
                        " elements are in use and " + setting + " makes it " + std::to_string(size),
                    "set " + setting + " to " + std::to_string(need) + " or more");
}

/// Same key, value cut or filled with zeros to the size of the other map.
base::Result<void> copy_hash(const MapSet& from, const MapSet& to, Table table) {
  std::vector<std::byte> value(std::max(from.shape(table).value_size, to.shape(table).value_size));
  int errnum = 0;
  MESH_CHECK(scan_hash(from.fd(table), from.shape(table), [&](const std::byte* key, const std::byte* old) {
    std::ranges::fill(value, std::byte{0});
    std::memcpy(value.data(), old, from.shape(table).value_size);
    if (::bpf_map_update_elem(to.fd(table), key, value.data(), BPF_ANY) != 0) errnum = errno;
  }));
  if (errnum != 0) return base::fail_errno(errnum, "copy map " + std::string(to_string(table)));
  return {};
}

void copy_array(const MapSet& from, const MapSet& to, Table table) {
  const std::uint32_t count = std::min(from.shape(table).max_entries, to.shape(table).max_entries);
  const std::size_t common = std::min(from.shape(table).value_size, to.shape(table).value_size);
  if (from.stride(table) == to.stride(table)) {
    std::memcpy(to.element(table, 0), from.element(table, 0), from.stride(table) * count);
    return;
  }
  for (std::uint32_t i = 0; i < count; ++i) std::memcpy(to.element(table, i), from.element(table, i), common);
}

/// Counters of an array that is not mapped; untouched elements stay untouched.
base::Result<void> copy_counters(const MapSet& from, const MapSet& to, Table table) {
  const std::size_t size = from.shape(table).value_size;
  const std::vector<std::byte> nothing(size);
  std::vector<std::byte> value(std::max<std::size_t>(size, to.shape(table).value_size));
  int errnum = 0;
  MESH_CHECK(scan_hash(from.fd(table), from.shape(table), [&](const std::byte* key, const std::byte* old) {
    std::uint32_t index = 0;
    std::memcpy(&index, key, sizeof(index));
    if (index >= to.shape(table).max_entries || std::memcmp(old, nothing.data(), size) == 0) return;
    std::memcpy(value.data(), old, size);
    if (::bpf_map_update_elem(to.fd(table), &index, value.data(), BPF_ANY) != 0) errnum = errno;
  }));
  if (errnum != 0) return base::fail_errno(errnum, "copy map " + std::string(to_string(table)));
  return {};
}

/// Shards are added up: the new set may have another number of them. The cursor is in the first.
void copy_service_live(const MapSet& from, const MapSet& to) {
  const TableSizes old_sizes = from.sizes();
  const TableSizes new_sizes = to.sizes();
  constexpr std::size_t kFields = sizeof(mesh_service_live) / sizeof(std::uint64_t);
  for (std::uint32_t id = 0; id < std::min(old_sizes.services, new_sizes.services); ++id) {
    std::array<std::uint64_t, kFields> sum{};
    for (std::uint32_t shard = 0; shard < old_sizes.live_shards; ++shard) {
      const auto one = from.read<mesh_service_live>(Table::kServiceLive, id * old_sizes.live_shards + shard);
      std::array<std::uint64_t, kFields> fields;
      std::memcpy(fields.data(), &one, sizeof(one));
      for (std::size_t i = 0; i < kFields; ++i) sum[i] += fields[i];
    }
    std::memcpy(to.element(Table::kServiceLive, id * new_sizes.live_shards), sum.data(),
                std::min(sizeof(sum), to.stride(Table::kServiceLive)));
  }
}

base::Result<void> copy_reasons(const MapSet& from, const MapSet& to) {
  const auto cpus = static_cast<std::size_t>(std::max(1, ::libbpf_num_possible_cpus()));
  std::vector<std::uint64_t> counts(cpus);
  const std::uint32_t entries =
      std::min(from.shape(Table::kReasons).max_entries, to.shape(Table::kReasons).max_entries);
  for (std::uint32_t i = 0; i < entries; ++i) {
    if (::bpf_map_lookup_elem(from.fd(Table::kReasons), &i, counts.data()) != 0 ||
        ::bpf_map_update_elem(to.fd(Table::kReasons), &i, counts.data(), BPF_ANY) != 0) {
      return base::fail_errno(errno, "copy map reasons");
    }
  }
  return {};
}

}  // namespace

base::Result<void> check_fits(const MapSet& from, const TableSizes& sizes) {
  const TableSizes old_sizes = from.sizes();
  std::uint64_t services = 1;
  std::uint64_t ranges = MESH_RANGE_EMPTY + 1;
  std::uint64_t slots = 0;
  for (std::uint32_t id = 1; id < old_sizes.services; ++id) {
    const auto service = from.read<mesh_service>(Table::kServices, id);
    if ((service.flags & MESH_SERVICE_IN_USE) == 0) continue;
    services = id + 1;
    const auto range_id = static_cast<std::uint32_t>(from.load_state(id));
    if (range_id >= old_sizes.ranges) continue;
    ranges = std::max<std::uint64_t>(ranges, range_id + 1);
    const auto range = from.read<mesh_range>(Table::kRanges, range_id);
    const std::uint64_t per_entry = mesh_slots_per_entry(range.algorithm);
    if (range_id != MESH_RANGE_EMPTY) slots = std::max(slots, range.base + range.count * per_entry);
  }
  std::uint64_t backends = 1;
  for (std::uint32_t id = 1; id < old_sizes.backends; ++id) {
    if (from.read<mesh_backend>(Table::kBackends, id).service_id != 0) backends = id + 1;
  }
  MESH_CHECK(check_table(Table::kServices, services, sizes));
  MESH_CHECK(check_table(Table::kRanges, ranges, sizes));
  MESH_CHECK(check_table(Table::kSlots, slots, sizes));
  MESH_CHECK(check_table(Table::kBackends, backends, sizes));
  for (const Table table : {Table::kFrontends, Table::kAffinity}) {
    const std::uint64_t need = MESH_TRY(count_elements(from.fd(table), from.shape(table)));
    MESH_CHECK(check_table(table, need, sizes));
  }
  const std::uint64_t owners = MESH_TRY(count_owners(from));
  return check_table(Table::kOwner, owners, sizes);
}

base::Result<void> copy_tables(const MapSet& from, const MapSet& to) {
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const Table table = table_at(i);
    const bool in_sockets = table == Table::kUdpPeers || table == Table::kMptcpOwner || table == Table::kListeners;
    const bool read_out = table == Table::kEvents;  // the last agent has what was in it; samples are best effort
    if (from.id(table) == to.id(table) || table == Table::kOwner || in_sockets || read_out) continue;
    if (table == Table::kServiceLive) {
      copy_service_live(from, to);
    } else if (table == Table::kReasons) {
      MESH_CHECK(copy_reasons(from, to));
    } else if (table == Table::kBackendLive || table == Table::kBackendOutcomes || table == Table::kServiceLatency) {
      MESH_CHECK(copy_counters(from, to, table));
    } else if (is_mapped_array(table)) {
      copy_array(from, to, table);
    } else {
      MESH_CHECK(copy_hash(from, to, table));
    }
  }
  return {};
}

base::Result<void> OwnerMerge::bring_newer() {
  if (from_.id(Table::kOwner) == to_.id(Table::kOwner)) return {};
  const OwnerMemory from = MESH_TRY(OwnerMemory::map(from_, Access::kRead));
  const OwnerMemory to = MESH_TRY(OwnerMemory::map(to_, Access::kWrite));
  base::Result<void> result;
  from.for_each([&](const mesh_owner& record) {
    const auto known = to.find(record.cookie);
    if (known && known->start_ns >= record.start_ns) return;
    const auto copy = copied_.find(record.cookie);
    if (copy != copied_.end() && copy->second == record.start_ns) return;  // left us since
    if (!to.put(record)) {
      result =
          base::fail(base::ErrorKind::kExhausted, "copy an owner record: no free slot", "raise agent.limits.owners");
      return;
    }
    if (!from.find(record.cookie)) {  // closed meanwhile
      to.erase(record.cookie);
      return;
    }
    copied_[record.cookie] = record.start_ns;
  });
  return result;
}

base::Result<void> OwnerMerge::first_pass() { return bring_newer(); }

base::Result<void> OwnerMerge::second_pass() {
  if (from_.id(Table::kOwner) == to_.id(Table::kOwner)) return {};
  {
    const OwnerMemory from = MESH_TRY(OwnerMemory::map(from_, Access::kRead));
    const OwnerMemory to = MESH_TRY(OwnerMemory::map(to_, Access::kWrite));
    for (const auto& [cookie, start_ns] : copied_) {
      if (from.find(cookie)) continue;
      const auto copy = to.find(cookie);
      if (copy && copy->start_ns == start_ns) to.erase(cookie);
    }
  }
  return bring_newer();
}

}  // namespace mesh::datapath
