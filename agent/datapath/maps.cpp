// SPDX-License-Identifier: Apache-2.0
#include "datapath/maps.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <vector>

#include "mesh_reasons.h"

namespace mesh::datapath {
namespace {

struct TableFacts {
  std::string_view name;
  bool mapped;
  std::string_view setting;
};

constexpr std::array<TableFacts, kTableCount> kFacts{{
    {"control", true, ""},
    {"frontends", false, "agent.limits.services"},
    {"services", true, "agent.limits.services"},
    {"service_state", true, "agent.limits.services"},
    {"ranges", true, "agent.limits.ranges"},
    {"slots", true, "agent.limits.slots"},
    {"backends", true, "agent.limits.backends"},
    {"service_live", true, "agent.limits.services"},
    // Read one element at a time and rarely: mapped, its 64 bytes per backend would count as the agent's memory.
    {"backend_live", false, "agent.limits.backends"},
    {"backend_outcomes", false, "agent.limits.backends"},
    {"service_latency", false, "agent.limits.services"},
    {"owner", false, "agent.limits.owners"},  // mapped while it is looked through: owners.hpp
    {"affinity", false, "agent.limits.affinities"},
    {"udp_peers", false, ""},
    {"mptcp_owner", false, ""},
    {"listeners", false, ""},
    {"reasons", false, ""},
    {"events", false, "agent.limits.events"},
}};

constexpr std::uint32_t kBatch = 1024;  // elements per system call

const TableFacts& facts(Table table) { return kFacts[static_cast<std::size_t>(table)]; }

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

std::string_view to_string(Table table) { return facts(table).name; }
bool is_mapped_array(Table table) { return facts(table).mapped; }
std::string_view setting_of(Table table) { return facts(table).setting; }

std::uint32_t entries_of(Table table, const TableSizes& sizes) {
  switch (table) {
    case Table::kFrontends:
    case Table::kServices:
    case Table::kServiceState:
    case Table::kServiceLatency:
      return sizes.services;
    case Table::kServiceLive:
      return sizes.services * sizes.live_shards;
    case Table::kRanges:
      return sizes.ranges;
    case Table::kSlots:
      return sizes.slots;
    case Table::kBackends:
    case Table::kBackendLive:
    case Table::kBackendOutcomes:
      return sizes.backends;
    case Table::kOwner:
      return sizes.owners;
    case Table::kAffinity:
      return sizes.affinities;
    case Table::kEvents:
      return sizes.events;
    case Table::kControl:
    case Table::kUdpPeers:
    case Table::kMptcpOwner:
    case Table::kListeners:
    case Table::kReasons:
      return 0;
  }
  return 0;
}

base::Result<MapInfo> map_info(int fd) {
  bpf_map_info info{};
  std::uint32_t length = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return base::fail_errno(errno, "read a BPF map's description");
  return MapInfo{{info.type, info.key_size, info.value_size, info.max_entries, info.map_flags}, info.id};
}

base::Result<MapSet> MapSet::open_pinned(const std::string& folder, Access access) {
  MapSet set;
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const std::string path = folder + "/" + std::string(kFacts[i].name);
    Entry& entry = set.entries_[i];
    entry.fd.reset(::bpf_obj_get(path.c_str()));
    if (!entry.fd.valid()) return base::fail_errno(errno, "open pinned map " + path);
    entry.info = MESH_TRY(map_info(entry.fd.get()));
  }
  MESH_CHECK(set.map_arrays(access));
  return set;
}

base::Result<MapSet> MapSet::from_object(const bpf_object* object) {
  MapSet set;
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const std::string name(kFacts[i].name);
    Entry& entry = set.entries_[i];
    const int fd = ::bpf_object__find_map_fd_by_name(object, name.c_str());
    if (fd < 0) return base::fail(base::ErrorKind::kInvalid, "use the BPF image: it has no map " + name);
    entry.fd.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!entry.fd.valid()) return base::fail_errno(errno, "duplicate the descriptor of map " + name);
    entry.info = MESH_TRY(map_info(entry.fd.get()));
  }
  MESH_CHECK(set.map_arrays(Access::kWrite));
  return set;
}

base::Result<void> MapSet::map_arrays(Access access) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t i = 0; i < kTableCount; ++i) {
    if (!kFacts[i].mapped) continue;
    Entry& entry = entries_[i];
    const MapShape& shape = entry.info.shape;
    entry.length = round_up(stride(table_at(i)) * shape.max_entries, page);
    const int protection = access == Access::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
    void* memory = ::mmap(nullptr, entry.length, protection, MAP_SHARED, entry.fd.get(), 0);
    if (memory == MAP_FAILED) return base::fail_errno(errno, "map " + std::string(kFacts[i].name) + " into memory");
    entry.memory = static_cast<std::byte*>(memory);
  }
  return {};
}

MapSet::MapSet(MapSet&& other) noexcept : entries_(std::move(other.entries_)) {
  for (Entry& entry : other.entries_) entry.memory = nullptr;
}

MapSet& MapSet::operator=(MapSet&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  entries_ = std::move(other.entries_);
  for (Entry& entry : other.entries_) entry.memory = nullptr;
  return *this;
}

MapSet::~MapSet() { unmap(); }

void MapSet::unmap() {
  for (Entry& entry : entries_) {
    if (entry.memory != nullptr) ::munmap(entry.memory, entry.length);
    entry.memory = nullptr;
  }
}

TableSizes MapSet::sizes() const {
  TableSizes sizes;
  sizes.services = shape(Table::kServices).max_entries;
  sizes.ranges = shape(Table::kRanges).max_entries;
  sizes.slots = shape(Table::kSlots).max_entries;
  sizes.backends = shape(Table::kBackends).max_entries;
  sizes.owners = shape(Table::kOwner).max_entries;
  sizes.affinities = shape(Table::kAffinity).max_entries;
  sizes.events = shape(Table::kEvents).max_entries;
  sizes.live_shards = shape(Table::kServiceLive).max_entries / sizes.services;
  return sizes;
}

std::size_t MapSet::stride(Table table) const { return round_up(shape(table).value_size, 8); }

std::byte* MapSet::element(Table table, std::uint32_t element_index) const {
  const Entry& entry = entries_[index(table)];
  MESH_ASSERT(entry.memory != nullptr && element_index < entry.info.shape.max_entries);
  return entry.memory + stride(table) * element_index;
}

std::uint64_t MapSet::load_state(std::uint32_t service_id) const {
  auto* state = reinterpret_cast<std::uint64_t*>(element(Table::kServiceState, service_id));
  return std::atomic_ref(*state).load(std::memory_order_acquire);
}

void MapSet::store_state(std::uint32_t service_id, std::uint64_t state) const {
  auto* memory = reinterpret_cast<std::uint64_t*>(element(Table::kServiceState, service_id));
  std::atomic_ref(*memory).store(state, std::memory_order_release);
}

mesh_control& MapSet::control() const { return *reinterpret_cast<mesh_control*>(element(Table::kControl, 0)); }

base::Result<void> scan_hash(int fd, const MapShape& shape,
                             const std::function<void(const std::byte* key, const std::byte* value)>& visit) {
  // A batch is at least one whole bucket; a bucket that does not fit answers ENOSPC and wants more room.
  std::uint32_t room = kBatch;
  std::vector<std::byte> keys(std::size_t{room} * shape.key_size);
  std::vector<std::byte> values(std::size_t{room} * shape.value_size);
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  bool first = true;
  while (true) {
    std::uint32_t count = room;
    const int error =
        ::bpf_map_lookup_batch(fd, first ? nullptr : &in, &out, keys.data(), values.data(), &count, nullptr);
    const int errnum = error != 0 ? errno : 0;
    if (errnum == EINTR) continue;
    if (errnum == ENOSPC && room < shape.max_entries) {
      room *= 2;
      keys.resize(std::size_t{room} * shape.key_size);
      values.resize(std::size_t{room} * shape.value_size);
      continue;
    }
    if (errnum != 0 && errnum != ENOENT) return base::fail_errno(errnum, "read a BPF hash map");
    for (std::uint32_t i = 0; i < count; ++i) {
      visit(keys.data() + std::size_t{i} * shape.key_size, values.data() + std::size_t{i} * shape.value_size);
    }
    if (errnum == ENOENT) return {};  // the last batch
    in = out;
    first = false;
  }
}

base::Result<std::uint64_t> count_elements(int fd, const MapShape& shape) {
  std::uint64_t count = 0;
  MESH_CHECK(scan_hash(fd, shape, [&](const std::byte*, const std::byte*) { ++count; }));
  return count;
}

}  // namespace mesh::datapath
