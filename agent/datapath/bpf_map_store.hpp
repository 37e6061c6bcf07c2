// SPDX-License-Identifier: Apache-2.0
// MapStore on the kernel's maps: arrays by plain stores into shared memory, frontends by system call.
#pragma once

#include "datapath/map_store.hpp"
#include "datapath/maps.hpp"

namespace mesh::datapath {

class BpfMapStore final : public MapStore {
 public:
  /// `maps` must outlive the store; its arrays must be writable if a write is called.
  explicit BpfMapStore(const MapSet& maps);

  [[nodiscard]] const TableSizes& sizes() const override { return sizes_; }
  base::Result<void> write_backend(std::uint32_t id, const mesh_backend& next) override;
  base::Result<void> write_slots(std::uint32_t base, std::span<const mesh_slot> slots) override;
  base::Result<void> write_range(std::uint32_t id, const mesh_range& range) override;
  base::Result<void> write_service(std::uint32_t id, const mesh_service& service) override;
  base::Result<void> store_state(std::uint32_t service_id, std::uint64_t state) override;
  base::Result<void> write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) override;
  base::Result<void> erase_frontend(const mesh_frontend_key& key) override;

  [[nodiscard]] mesh_backend backend(std::uint32_t id) const override;
  [[nodiscard]] mesh_slot slot(std::uint32_t index) const override;
  [[nodiscard]] mesh_range range(std::uint32_t id) const override;
  [[nodiscard]] mesh_service service(std::uint32_t id) const override;
  [[nodiscard]] std::uint64_t state(std::uint32_t service_id) const override;
  base::Result<void> for_each_frontend(
      const std::function<void(const mesh_frontend_key&, std::uint32_t service_id)>& visit) const override;

 private:
  const MapSet& maps_;
  TableSizes sizes_;
};

}  // namespace mesh::datapath
