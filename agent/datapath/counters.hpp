// SPDX-License-Identifier: Apache-2.0
// What the kernel side counts, and how full and how big its maps are. Reads only (the affinity sweep excepted); works
// on the maps of a running agent and on pins whose agent is dead.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "datapath/maps.hpp"
#include "mesh_reasons.h"

namespace mesh::datapath {

/// Events by enum mesh_reason, all CPUs together, since the maps were made.
using ReasonCounts = std::array<std::uint64_t, MESH_REASON_COUNT>;
base::Result<ReasonCounts> read_reasons(const MapSet& maps);
std::string_view reason_label(std::uint32_t reason);  ///< "no_backend"; of mesh_reasons.h
std::string_view reason_text(std::uint32_t reason);   ///< For people.

struct ServiceCounts {
  std::uint64_t connects = 0;   ///< TCP and UDP connect() sent to a backend.
  std::uint64_t datagrams = 0;  ///< Unconnected UDP.
  std::uint64_t refused = 0;    ///< For whatever reason; refused_no_backend is a part of it.
  std::uint64_t refused_no_backend = 0;
  std::uint64_t passed = 0;
  std::uint64_t affinity_hits = 0;
};
/// Summed over the shards; no system call.
ServiceCounts read_service_counts(const MapSet& maps, std::uint32_t service_id);
/// The backend's books; one system call. Zero where the map has not that many.
mesh_backend_live read_backend_live(const MapSet& maps, std::uint32_t backend_id);
/// Connect latencies of the service; one system call. All zero for an id that is none.
mesh_service_latency read_service_latency(const MapSet& maps, std::uint32_t service_id);

struct MapUse {
  Table table = Table::kControl;
  std::optional<std::uint64_t> used;  ///< Counted, not estimated; nothing where fullness means nothing.
  std::uint64_t capacity = 0;
  std::uint64_t memory_bytes = 0;  ///< What the kernel charges for it.
};
/// frontends, owner and affinity by counting; services, ranges, slots and backends by looking at what services in use
/// name (the compiler knows what it keeps in quarantine beyond that). Tens of milliseconds for full default maps.
base::Result<std::vector<MapUse>> read_map_use(const MapSet& maps);

/// Kernel memory of one map: memlock of its fdinfo. Falls back to an estimate from its shape.
std::uint64_t map_memory_bytes(int fd, const MapShape& shape);
std::uint64_t estimate_bytes(const MapShape& shape);

/// What maps of these sizes will cost, before they are made; within a few percent of what the kernel then charges.
struct SizeEstimate {
  Table table = Table::kControl;
  std::uint32_t entries = 0;
  std::uint64_t memory_bytes = 0;
};
std::vector<SizeEstimate> estimate(const TableSizes& sizes);

/// Deletes affinity entries whose timeout has passed (or whose service has none any more). `now_ns` is
/// CLOCK_MONOTONIC. Returns how many. A client that comes back at that very moment may get another backend.
base::Result<std::uint64_t> sweep_affinity(const MapSet& maps, std::uint64_t now_ns);

}  // namespace mesh::datapath
