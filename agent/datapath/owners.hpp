// SPDX-License-Identifier: Apache-2.0
// The owner records as the agent reads them: an array in which a socket's cookie says where its record may be
// (bpf/include/mesh_owner.h). Mapped only while it is looked through: it would count as the agent's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.hpp"
#include "datapath/maps.hpp"

namespace mesh::datapath {

class OwnerMemory {
 public:
  static base::Result<OwnerMemory> map(const MapSet& maps, Access access);
  OwnerMemory(OwnerMemory&& other) noexcept;
  OwnerMemory& operator=(OwnerMemory&&) = delete;
  ~OwnerMemory();

  /// Every record that is whole, one by one, in slot order. Records that come or go meanwhile may or may not be seen.
  /// About a millisecond per 100,000 slots.
  void for_each(const std::function<void(const mesh_owner&)>& visit) const;
  [[nodiscard]] std::optional<mesh_owner> find(std::uint64_t cookie) const;
  /// Writes or replaces a record, as the kernel programs do. False: no free slot.
  [[nodiscard]] bool put(const mesh_owner& record) const;
  /// Frees the cookie's record; false: there is none (any more). Never that of another socket that took the slot.
  bool erase(std::uint64_t cookie) const;

 private:
  OwnerMemory(std::byte* memory, std::size_t stride, std::uint32_t slots)
      : memory_(memory), stride_(stride), slots_(slots) {}
  [[nodiscard]] std::optional<mesh_owner> read(std::uint32_t slot) const;
  [[nodiscard]] std::byte* at(std::uint32_t slot) const { return memory_ + stride_ * slot; }
  [[nodiscard]] std::optional<std::uint32_t> slot_of(std::uint64_t cookie) const;

  std::byte* memory_ = nullptr;
  std::size_t stride_ = 0;
  std::uint32_t slots_ = 0;
};

base::Result<std::uint64_t> count_owners(const MapSet& maps);

}  // namespace mesh::datapath
