// SPDX-License-Identifier: Apache-2.0
// The kernel tables as the agent writes and reads them: the seam between decisions and effects. BpfMapStore writes
// real maps (arrays through mmap: plain stores, no system call); FakeMapStore is memory that can fail at operation N.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/error.hpp"
#include "mesh_abi.h"

namespace mesh::datapath {

/// How many elements each table holds. Configuration (`agent.limits`); a change moves the tables at the next start.
struct TableSizes {
  std::uint32_t services = 16384;  ///< frontends, services, service_state; ids 1 .. services-1
  std::uint32_t ranges = 32768;    ///< twice the services: an update holds the old range and the new one
  std::uint32_t slots = 1048576;
  std::uint32_t backends = 131072;
  std::uint32_t owners = 131072;  ///< sockets with a record at one time; a power of two, at least MESH_OWNER_WAYS
  std::uint32_t affinities = 65536;
  std::uint32_t events = 1U << 22;  ///< bytes of the ring of samples; a power of two and of pages
  std::uint32_t live_shards = 1;    ///< a power of two, at most MESH_LIVE_SHARDS_MAX
  bool operator==(const TableSizes&) const = default;
};

class MapStore {
 public:
  virtual ~MapStore() = default;
  [[nodiscard]] virtual const TableSizes& sizes() const = 0;

  // Writes. Ids and ranges are within sizes() (a programming error otherwise).
  virtual base::Result<void> write_backend(std::uint32_t id, const mesh_backend& backend) = 0;
  virtual base::Result<void> write_slots(std::uint32_t base, std::span<const mesh_slot> slots) = 0;
  virtual base::Result<void> write_range(std::uint32_t id, const mesh_range& range) = 0;
  virtual base::Result<void> write_service(std::uint32_t id, const mesh_service& service) = 0;
  /// One aligned 64-bit store with release order: everything written before is seen by who sees this.
  virtual base::Result<void> store_state(std::uint32_t service_id, std::uint64_t state) = 0;
  virtual base::Result<void> write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) = 0;
  virtual base::Result<void> erase_frontend(const mesh_frontend_key& key) = 0;  ///< Absent is success.

  // Reads, of what the kernel has now.
  [[nodiscard]] virtual mesh_backend backend(std::uint32_t id) const = 0;
  [[nodiscard]] virtual mesh_slot slot(std::uint32_t index) const = 0;
  [[nodiscard]] virtual mesh_range range(std::uint32_t id) const = 0;
  [[nodiscard]] virtual mesh_service service(std::uint32_t id) const = 0;
  [[nodiscard]] virtual std::uint64_t state(std::uint32_t service_id) const = 0;
  virtual base::Result<void> for_each_frontend(
      const std::function<void(const mesh_frontend_key&, std::uint32_t service_id)>& visit) const = 0;
};

}  // namespace mesh::datapath
