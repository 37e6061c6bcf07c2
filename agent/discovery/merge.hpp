// SPDX-License-Identifier: Apache-2.0
// The newest updates of all sources, as one snapshot. Pure, and only pointer work: 10,000 services cost microseconds
// per hundred, whatever their endpoints are.
#pragma once

#include <cstdint>
#include <span>

#include "discovery/source.hpp"
#include "model/snapshot.hpp"

namespace mesh::discovery {

/// Conflicts that are listed one by one; more are listed as one line that says how many.
inline constexpr std::size_t kMaxConflicts = 100;

/// `updates` are in order of precedence, highest first; null for a source without an update yet. Where several services
/// have one frontend the first wins: by source, then by position in its update. Services keep their pointers. Updates
/// that are sorted by frontend (as FileSource's are) cost linear time.
model::SnapshotPtr merge(std::span<const UpdatePtr> updates, std::uint64_t generation);

}  // namespace mesh::discovery
