// SPDX-License-Identifier: Apache-2.0
// Moving the contents of one set of maps to another of different sizes or element layout, under traffic.
//
// Tables are copied while nobody writes them (the one agent that could is the one that is moving them): element by
// element, the common prefix, the rest zero. Owner records change all the time, so they are moved in two passes; see
// OwnerMerge. Counters that the old programs add between copy and switch are lost; socket storage (udp_peers) can't be
// copied and starts empty if its element changes.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/error.hpp"
#include "datapath/maps.hpp"

namespace mesh::datapath {

/// Would everything that is in use fit? kExhausted names the map, the need and the setting.
base::Result<void> check_fits(const MapSet& from, const TableSizes& sizes);

/// Copies every table but owner, skipping maps that both sets share. May be repeated: the same contents are written.
base::Result<void> copy_tables(const MapSet& from, const MapSet& to);

/// Brings the owner records of a set that is being left to the one that is taken up.
///
/// While it works, mesh_mv_release must be the release program everywhere: it deletes a closed socket's record from the
/// left maps first and from the new one after that. A record that is inserted here and then found gone from the left
/// map belongs to a socket that closed in between, and is taken back; in either order none is left behind.
class OwnerMerge {
 public:
  OwnerMerge(const MapSet& from, const MapSet& to) : from_(from), to_(to) {}

  /// Copies what is there. Call it before the connect programs are switched.
  base::Result<void> first_pass();
  /// Call it when no old connect program runs any more: brings records that were made or replaced since, and drops
  /// copies whose socket went elsewhere under an old program.
  base::Result<void> second_pass();

 private:
  base::Result<void> bring_newer();

  const MapSet& from_;
  const MapSet& to_;
  std::unordered_map<std::uint64_t, std::uint64_t> copied_;  ///< cookie -> start_ns
};

}  // namespace mesh::datapath
