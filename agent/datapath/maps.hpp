// SPDX-License-Identifier: Apache-2.0
// One set of the kernel maps: file descriptors, shapes, and the mmapable arrays as memory. A set belongs together: its
// tables name each other's ids. It may have been made by another build, so element sizes are those of the kernel's maps
// ("stride"), not of this build's structs: what both have in common is copied, the rest reads as zero.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "datapath/map_store.hpp"

struct bpf_object;

namespace mesh::datapath {

enum class Table : std::uint8_t {
  kControl,
  kFrontends,
  kServices,
  kServiceState,
  kRanges,
  kSlots,
  kBackends,
  kServiceLive,
  kBackendLive,
  kBackendOutcomes,
  kServiceLatency,
  kOwner,
  kAffinity,
  kUdpPeers,
  kMptcpOwner,
  kListeners,
  kReasons,
  kEvents,
};
inline constexpr std::size_t kTableCount = 18;

/// The map's name, in BPF and as a pin: "service_state".
std::string_view to_string(Table table);
inline constexpr Table table_at(std::size_t index) { return static_cast<Table>(index); }
/// Whether the agent sees it as memory all the time.
bool is_mapped_array(Table table);
/// How many elements these sizes give the map; 0 where it has a fixed number.
std::uint32_t entries_of(Table table, const TableSizes& sizes);
/// The setting that decides that number: "agent.limits.slots".
std::string_view setting_of(Table table);

struct MapShape {
  std::uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0;
  bool operator==(const MapShape&) const = default;
};

struct MapInfo {
  MapShape shape;
  std::uint32_t id = 0;
};
base::Result<MapInfo> map_info(int fd);

enum class Access : std::uint8_t { kRead, kWrite };

class MapSet {
 public:
  /// Opens the pins of one set. kNotFound names the first map that is missing.
  static base::Result<MapSet> open_pinned(const std::string& folder, Access access);
  /// The maps of a loaded object; the set has its own descriptors.
  static base::Result<MapSet> from_object(const bpf_object* object);

  MapSet() = default;
  MapSet(MapSet&&) noexcept;
  MapSet& operator=(MapSet&&) noexcept;
  ~MapSet();

  [[nodiscard]] int fd(Table table) const { return entries_[index(table)].fd.get(); }
  [[nodiscard]] const MapShape& shape(Table table) const { return entries_[index(table)].info.shape; }
  [[nodiscard]] std::uint32_t id(Table table) const { return entries_[index(table)].info.id; }
  [[nodiscard]] TableSizes sizes() const;  ///< Read off the maps.

  /// The element's memory. The index is within the map (a programming error otherwise).
  [[nodiscard]] std::byte* element(Table table, std::uint32_t index) const;
  [[nodiscard]] std::size_t stride(Table table) const;

  template <typename T>
  [[nodiscard]] T read(Table table, std::uint32_t element_index) const {
    T value{};
    std::memcpy(&value, element(table, element_index), std::min(sizeof(T), stride(table)));
    return value;
  }
  template <typename T>
  void write(Table table, std::uint32_t element_index, const T& value) const {
    std::memcpy(element(table, element_index), &value, std::min(sizeof(T), stride(table)));
  }
  [[nodiscard]] std::uint64_t load_state(std::uint32_t service_id) const;
  void store_state(std::uint32_t service_id, std::uint64_t state) const;

  /// The one control element, as memory. Every build's control starts with this struct's fields.
  [[nodiscard]] mesh_control& control() const;

 private:
  struct Entry {
    base::Fd fd;
    MapInfo info;
    std::byte* memory = nullptr;
    std::size_t length = 0;
  };
  static std::size_t index(Table table) { return static_cast<std::size_t>(table); }
  base::Result<void> map_arrays(Access access);
  void unmap();

  std::array<Entry, kTableCount> entries_;
};

/// Visits the elements of a hash map, or of an array that is not mapped, by batches. Elements that come or go meanwhile
/// may or may not be seen. `visit` gets key and value in the map's sizes.
base::Result<void> scan_hash(int fd, const MapShape& shape,
                             const std::function<void(const std::byte* key, const std::byte* value)>& visit);

/// The number of elements in a hash map, counted.
base::Result<std::uint64_t> count_elements(int fd, const MapShape& shape);

}  // namespace mesh::datapath
