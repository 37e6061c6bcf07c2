// SPDX-License-Identifier: Apache-2.0
#include "datapath/owners.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mesh::datapath {
namespace {

std::uint64_t& cookie_at(std::byte* record) { return *reinterpret_cast<std::uint64_t*>(record); }

std::uint64_t load_cookie(std::byte* record) {
  return std::atomic_ref(cookie_at(record)).load(std::memory_order_acquire);
}

}  // namespace

base::Result<OwnerMemory> OwnerMemory::map(const MapSet& maps, Access access) {
  const std::size_t stride = maps.stride(Table::kOwner);
  const std::uint32_t slots = maps.shape(Table::kOwner).max_entries;
  const int protection = access == Access::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* memory = ::mmap(nullptr, stride * slots, protection, MAP_SHARED, maps.fd(Table::kOwner), 0);
  if (memory == MAP_FAILED) return base::fail_errno(errno, "map owner into memory");
  return OwnerMemory(static_cast<std::byte*>(memory), stride, slots);
}

OwnerMemory::OwnerMemory(OwnerMemory&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), stride_(other.stride_), slots_(other.slots_) {}

OwnerMemory::~OwnerMemory() {
  if (memory_ != nullptr) ::munmap(memory_, stride_ * slots_);
}

std::optional<mesh_owner> OwnerMemory::read(std::uint32_t slot) const {
  const std::uint64_t cookie = load_cookie(at(slot));
  if (cookie == 0 || mesh_owner_is_busy(cookie) != 0) return std::nullopt;
  mesh_owner record{};
  std::memcpy(&record, at(slot), std::min(sizeof(record), stride_));
  std::atomic_thread_fence(std::memory_order_acquire);
  if (load_cookie(at(slot)) != cookie) return std::nullopt;  // left, or taken by another socket
  record.cookie = cookie;
  return record;
}

void OwnerMemory::for_each(const std::function<void(const mesh_owner&)>& visit) const {
  for (std::uint32_t slot = 0; slot < slots_; ++slot) {
    if (const auto record = read(slot)) visit(*record);
  }
}

std::optional<std::uint32_t> OwnerMemory::slot_of(std::uint64_t cookie) const {
  for (std::uint32_t way = 0; way < MESH_OWNER_WAYS; ++way) {
    const std::uint32_t slot = (static_cast<std::uint32_t>(cookie) ^ way) & (slots_ - 1);
    if (load_cookie(at(slot)) == cookie) return slot;
  }
  return std::nullopt;
}

std::optional<mesh_owner> OwnerMemory::find(std::uint64_t cookie) const {
  const auto slot = slot_of(cookie);
  return slot ? read(*slot) : std::nullopt;
}

bool OwnerMemory::put(const mesh_owner& record) const {
  const std::uint64_t busy = record.cookie ^ MESH_OWNER_BUSY;
  auto slot = slot_of(record.cookie);
  if (slot) {
    std::uint64_t expected = record.cookie;
    if (!std::atomic_ref(cookie_at(at(*slot))).compare_exchange_strong(expected, busy)) slot.reset();
  }
  for (std::uint32_t way = 0; !slot && way < MESH_OWNER_WAYS; ++way) {
    const std::uint32_t candidate = (static_cast<std::uint32_t>(record.cookie) ^ way) & (slots_ - 1);
    std::uint64_t free = 0;
    if (std::atomic_ref(cookie_at(at(candidate))).compare_exchange_strong(free, busy)) slot = candidate;
  }
  if (!slot) return false;
  constexpr std::size_t kBody = sizeof(record.cookie);
  std::memcpy(at(*slot) + kBody, reinterpret_cast<const std::byte*>(&record) + kBody,
              std::min(sizeof(record), stride_) - kBody);
  std::atomic_ref(cookie_at(at(*slot))).store(record.cookie);
  return true;
}

bool OwnerMemory::erase(std::uint64_t cookie) const {
  const auto slot = slot_of(cookie);
  std::uint64_t expected = cookie;
  return slot && std::atomic_ref(cookie_at(at(*slot))).compare_exchange_strong(expected, 0);
}

base::Result<std::uint64_t> count_owners(const MapSet& maps) {
  const OwnerMemory memory = MESH_TRY(OwnerMemory::map(maps, Access::kRead));
  std::uint64_t count = 0;
  memory.for_each([&](const mesh_owner&) { ++count; });
  return count;
}

}  // namespace mesh::datapath
