// SPDX-License-Identifier: Apache-2.0
#include "datapath/book_audit.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <unordered_map>

#include "datapath/owners.hpp"

namespace mesh::datapath {
namespace {

using Unmap = std::function<void(std::byte*)>;
using Memory = std::unique_ptr<std::byte, Unmap>;

/// The whole of backend_live as memory.
base::Result<Memory> map_live(const MapSet& maps, Access access) {
  const std::size_t length = maps.stride(Table::kBackendLive) * maps.shape(Table::kBackendLive).max_entries;
  const int protection = access == Access::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* memory = ::mmap(nullptr, length, protection, MAP_SHARED, maps.fd(Table::kBackendLive), 0);
  if (memory == MAP_FAILED) return base::fail_errno(errno, "map backend_live into memory");
  return Memory(static_cast<std::byte*>(memory), [length](std::byte* begin) { ::munmap(begin, length); });
}

/// A counter that the kernel's programs add to.
std::atomic_ref<std::uint64_t> counter(const MapSet& maps, const Memory& live, std::uint32_t id, std::size_t offset) {
  std::byte* element = live.get() + maps.stride(Table::kBackendLive) * id;
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(element + offset));
}

struct Turnover {
  std::uint64_t opened = 0;
  std::uint64_t closed = 0;
  bool operator==(const Turnover&) const = default;
};

Turnover turnover(const MapSet& maps, const Memory& live, std::uint32_t id) {
  return {counter(maps, live, id, offsetof(mesh_backend_live, opened)).load(),
          counter(maps, live, id, offsetof(mesh_backend_live, closed)).load()};
}

}  // namespace

std::string to_string(const BookDifference& difference) {
  const bool more = difference.surplus > 0;
  return "backend " + std::to_string(difference.backend_id) + ": " +
         std::to_string(more ? difference.surplus : -difference.surplus) + " records " + (more ? "more" : "fewer") +
         " than open connections in its books";
}

base::Result<std::vector<BookDifference>> compare_books(const MapSet& maps) {
  const Memory live = MESH_TRY(map_live(maps, Access::kRead));
  const OwnerMemory owners = MESH_TRY(OwnerMemory::map(maps, Access::kRead));
  const std::uint32_t backends = maps.shape(Table::kBackendLive).max_entries;
  std::unordered_map<std::uint32_t, Turnover> before;  // of backends that were ever used
  for (std::uint32_t id = 1; id < backends; ++id) {
    const Turnover now = turnover(maps, live, id);
    if (now != Turnover{}) before.emplace(id, now);
  }
  std::unordered_map<std::uint32_t, std::int64_t> records;
  owners.for_each([&](const mesh_owner& record) {
    if (record.backend_id < backends) ++records[record.backend_id];
  });
  std::vector<BookDifference> found;
  const auto compare = [&](std::uint32_t id, const Turnover& then, std::int64_t count) {
    if (turnover(maps, live, id) != then) return;
    const std::int64_t surplus = count - static_cast<std::int64_t>(then.opened - then.closed);
    if (surplus != 0) found.push_back({id, maps.read<mesh_backend>(Table::kBackends, id).generation, surplus});
  };
  for (const auto& [id, then] : before) {
    const auto counted = records.find(id);
    compare(id, then, counted == records.end() ? 0 : counted->second);
  }
  for (const auto& [id, count] : records) {
    if (!before.contains(id)) compare(id, {}, count);
  }
  return found;
}

base::Result<void> correct_books(const MapSet& maps, const std::vector<BookDifference>& differences) {
  if (differences.empty()) return {};
  const Memory live = MESH_TRY(map_live(maps, Access::kWrite));
  for (const BookDifference& difference : differences) {
    const bool more = difference.surplus > 0;
    counter(maps, live, difference.backend_id,
            more ? offsetof(mesh_backend_live, opened) : offsetof(mesh_backend_live, closed))
        .fetch_add(static_cast<std::uint64_t>(more ? difference.surplus : -difference.surplus));
  }
  return {};
}

base::Result<std::size_t> free_records(const MapSet& maps, std::span<const mesh_owner> records) {
  if (records.empty()) return 0;
  const Memory live = MESH_TRY(map_live(maps, Access::kWrite));
  const OwnerMemory owners = MESH_TRY(OwnerMemory::map(maps, Access::kWrite));
  const std::uint32_t backends = maps.shape(Table::kBackendLive).max_entries;
  std::size_t freed = 0;
  for (const mesh_owner& record : records) {
    const auto now = owners.find(record.cookie);
    if (!now || now->start_ns != record.start_ns) continue;
    // First the books: as long as the record is there, its backend's id is not given to another.
    const bool has_book = record.backend_id < backends;
    const auto count = [&](std::uint64_t more) {
      if (has_book) counter(maps, live, record.backend_id, offsetof(mesh_backend_live, closed)).fetch_add(more);
    };
    count(1);
    if (owners.erase(record.cookie)) {
      ++freed;
    } else {
      count(-1ULL);  // its socket was closed at this moment, and counted it
    }
  }
  return freed;
}

std::vector<BookDifference> BookAudit::look(std::vector<BookDifference> found) {
  std::ranges::sort(found);
  std::vector<BookDifference> stood;
  std::ranges::set_intersection(found, before_, std::back_inserter(stood));
  before_.clear();  // what stood is corrected now, and has to stand twice again
  std::ranges::set_difference(found, stood, std::back_inserter(before_));
  return stood;
}

}  // namespace mesh::datapath
