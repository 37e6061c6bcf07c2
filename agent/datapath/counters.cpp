// SPDX-License-Identifier: Apache-2.0
#include "datapath/counters.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <vector>

#include "datapath/owners.hpp"

namespace mesh::datapath {
namespace {

struct ReasonWords {
  std::string_view label;
  std::string_view text;
};

constexpr std::array<ReasonWords, MESH_REASON_COUNT> kReasonWords{{
#define MESH_REASON_WORDS(name, label, text) {label, text},
    MESH_REASONS(MESH_REASON_WORDS)
#undef MESH_REASON_WORDS
}};

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHashElement = 48;  // struct htab_elem before key and value (Linux 6.x)
constexpr std::uint64_t kHashBucket = 16;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

std::uint64_t power_of_two_above(std::uint64_t value) {
  std::uint64_t power = 1;
  while (power < value) power *= 2;
  return power;
}

}  // namespace

std::string_view reason_label(std::uint32_t reason) {
  return reason < kReasonWords.size() ? kReasonWords[reason].label : "unknown";
}

std::string_view reason_text(std::uint32_t reason) {
  return reason < kReasonWords.size() ? kReasonWords[reason].text : "counted by a newer version";
}

base::Result<ReasonCounts> read_reasons(const MapSet& maps) {
  std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(std::max(1, ::libbpf_num_possible_cpus())));
  ReasonCounts counts{};
  for (std::uint32_t reason = 0; reason < MESH_REASON_COUNT; ++reason) {
    if (::bpf_map_lookup_elem(maps.fd(Table::kReasons), &reason, per_cpu.data()) != 0) {
      return base::fail_errno(errno, "read map reasons");
    }
    for (const std::uint64_t count : per_cpu) counts[reason] += count;
  }
  return counts;
}

ServiceCounts read_service_counts(const MapSet& maps, std::uint32_t service_id) {
  const std::uint32_t shards = maps.sizes().live_shards;
  ServiceCounts sum;
  for (std::uint32_t shard = 0; shard < shards; ++shard) {
    const auto live = maps.read<mesh_service_live>(Table::kServiceLive, service_id * shards + shard);
    sum.connects += live.connects;
    sum.datagrams += live.datagrams;
    sum.refused += live.refused;
    sum.refused_no_backend += live.refused_no_backend;
    sum.passed += live.passed;
    sum.affinity_hits += live.affinity_hits;
  }
  return sum;
}

mesh_backend_live read_backend_live(const MapSet& maps, std::uint32_t backend_id) {
  mesh_backend_live live{};
  std::vector<std::byte> value(std::max(sizeof(live), std::size_t{maps.shape(Table::kBackendLive).value_size}));
  if (::bpf_map_lookup_elem(maps.fd(Table::kBackendLive), &backend_id, value.data()) == 0) {
    std::memcpy(&live, value.data(), sizeof(live));
  }
  return live;
}

mesh_service_latency read_service_latency(const MapSet& maps, std::uint32_t service_id) {
  std::vector<std::byte> value(
      std::max(sizeof(mesh_service_latency), std::size_t{maps.shape(Table::kServiceLatency).value_size}));
  mesh_service_latency latency{};
  if (::bpf_map_lookup_elem(maps.fd(Table::kServiceLatency), &service_id, value.data()) != 0) return latency;
  std::memcpy(&latency, value.data(), sizeof(latency));
  return latency;
}

base::Result<std::vector<MapUse>> read_map_use(const MapSet& maps) {
  const TableSizes sizes = maps.sizes();
  std::uint64_t services = 0, ranges = 0, slots = 0, backends = 0;
  for (std::uint32_t id = 1; id < sizes.services; ++id) {
    if ((maps.read<mesh_service>(Table::kServices, id).flags & MESH_SERVICE_IN_USE) == 0) continue;
    ++services;
    const auto range_id = static_cast<std::uint32_t>(maps.load_state(id));
    if (range_id <= MESH_RANGE_EMPTY || range_id >= sizes.ranges) continue;
    ++ranges;
    const auto range = maps.read<mesh_range>(Table::kRanges, range_id);
    slots += std::uint64_t{range.count} * mesh_slots_per_entry(range.algorithm);
  }
  for (std::uint32_t id = 1; id < sizes.backends; ++id) {
    if (maps.read<mesh_backend>(Table::kBackends, id).service_id != 0) ++backends;
  }
  std::vector<MapUse> result;
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const Table table = table_at(i);
    MapUse use;
    use.table = table;
    use.capacity = maps.shape(table).max_entries;
    use.memory_bytes = map_memory_bytes(maps.fd(table), maps.shape(table));
    switch (table) {
      case Table::kOwner:
        use.used = MESH_TRY(count_owners(maps));
        break;
      case Table::kFrontends:
      case Table::kAffinity:
        use.used = MESH_TRY(count_elements(maps.fd(table), maps.shape(table)));
        break;
      case Table::kServices:
        use.used = services;
        break;
      case Table::kRanges:
        use.used = ranges;
        break;
      case Table::kSlots:
        use.used = slots;
        break;
      case Table::kBackends:
        use.used = backends;
        break;
      default:  // used by the ids of those above, in the sockets, of a fixed size, or emptied all the time
        break;
    }
    result.push_back(use);
  }
  return result;
}

std::uint64_t map_memory_bytes(int fd, const MapShape& shape) {
  constexpr std::size_t kFdInfoMax = 4096;
  const auto text = base::read_file("/proc/self/fdinfo/" + std::to_string(fd), kFdInfoMax);
  constexpr std::string_view kField = "memlock:\t";
  if (!text) return estimate_bytes(shape);
  const auto at = text->find(kField);
  if (at == std::string::npos) return estimate_bytes(shape);
  std::uint64_t bytes = 0;
  std::from_chars(text->data() + at + kField.size(), text->data() + text->size(), bytes);
  return bytes > 0 ? bytes : estimate_bytes(shape);
}

std::uint64_t estimate_bytes(const MapShape& shape) {
  const std::uint64_t entries = shape.max_entries;
  const std::uint64_t value = round_up(shape.value_size, 8);
  const auto cpus = static_cast<std::uint64_t>(std::max(1, ::libbpf_num_possible_cpus()));
  switch (shape.type) {
    case BPF_MAP_TYPE_HASH: {
      // Preallocated: every element, one spare per CPU, and a power of two of buckets.
      const std::uint64_t element = kHashElement + round_up(shape.key_size, 8) + value;
      return (entries + cpus) * element + power_of_two_above(entries) * kHashBucket;
    }
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      return entries * (value * cpus + 8);
    case BPF_MAP_TYPE_SK_STORAGE:
      return kPage;
    case BPF_MAP_TYPE_RINGBUF:
      return entries + 3 * kPage;  // two pages of positions and one of its own
    default:
      return round_up(entries * value, kPage) + kPage;
  }
}

std::vector<SizeEstimate> estimate(const TableSizes& sizes) {
  const auto array = [](std::size_t value) {
    return MapShape{BPF_MAP_TYPE_ARRAY, 4, static_cast<std::uint32_t>(value), 1, BPF_F_MMAPABLE};
  };
  const auto hash = [](std::size_t key, std::size_t value) {
    return MapShape{BPF_MAP_TYPE_HASH, static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(value), 1, 0};
  };
  const std::array<MapShape, kTableCount> shapes{{
      array(sizeof(mesh_control)),
      hash(sizeof(mesh_frontend_key), sizeof(std::uint32_t)),
      array(sizeof(mesh_service)),
      array(sizeof(std::uint64_t)),
      array(sizeof(mesh_range)),
      array(sizeof(mesh_slot)),
      array(sizeof(mesh_backend)),
      array(sizeof(mesh_service_live)),
      array(sizeof(mesh_backend_live)),
      array(sizeof(mesh_backend_outcomes)),
      array(sizeof(mesh_service_latency)),
      array(sizeof(mesh_owner)),
      hash(sizeof(mesh_affinity_key), sizeof(mesh_affinity)),
      {BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(mesh_udp_peers), 0, BPF_F_NO_PREALLOC},
      {BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(std::uint64_t), 0, BPF_F_NO_PREALLOC},
      {BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(std::uint32_t), 0, BPF_F_NO_PREALLOC},
      {BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(std::uint64_t), MESH_REASONS_MAX, 0},
      {BPF_MAP_TYPE_RINGBUF, 0, 0, 1, 0},
  }};
  std::vector<SizeEstimate> result;
  for (std::size_t i = 0; i < kTableCount; ++i) {
    MapShape shape = shapes[i];
    if (const std::uint32_t entries = entries_of(table_at(i), sizes)) shape.max_entries = entries;
    result.push_back({table_at(i), shape.max_entries, estimate_bytes(shape)});
  }
  return result;
}

base::Result<std::uint64_t> sweep_affinity(const MapSet& maps, std::uint64_t now_ns) {
  constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
  const TableSizes sizes = maps.sizes();
  std::vector<mesh_affinity_key> expired;
  MESH_CHECK(scan_hash(maps.fd(Table::kAffinity), maps.shape(Table::kAffinity),
                       [&](const std::byte* key_bytes, const std::byte* value_bytes) {
                         mesh_affinity_key key{};
                         mesh_affinity value{};
                         std::memcpy(&key, key_bytes, sizeof(key));
                         std::memcpy(&value, value_bytes, sizeof(value));
                         std::uint64_t timeout_s = 0;
                         if (key.service_id < sizes.services) {
                           const auto range_id = static_cast<std::uint32_t>(maps.load_state(key.service_id));
                           // Nobody can be sent anywhere now; the service's own timeout is not known until it is back.
                           if (range_id == MESH_RANGE_EMPTY) return;
                           if (range_id != 0 && range_id < sizes.ranges) {
                             const auto range = maps.read<mesh_range>(Table::kRanges, range_id);
                             if (range.service_id == key.service_id) timeout_s = range.affinity_timeout_s;
                           }
                         }
                         if (now_ns >= value.last_used_ns + timeout_s * kNsPerSecond) expired.push_back(key);
                       }));
  std::uint64_t deleted = 0;
  for (const mesh_affinity_key& key : expired) {
    if (::bpf_map_delete_elem(maps.fd(Table::kAffinity), &key) == 0) ++deleted;
  }
  return deleted;
}

}  // namespace mesh::datapath
