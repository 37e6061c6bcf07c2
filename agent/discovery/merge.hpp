// SPDX-License-Identifier: Apache-2.0
// The newest updates of all sources, as one snapshot. Pure, and only pointer work but for services that several sources
// have together: 10,000 services cost microseconds per hundred, whatever their endpoints are.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "discovery/source.hpp"
#include "model/snapshot.hpp"

namespace mesh::discovery {

/// Conflicts that are listed one by one; more are listed as one line that says how many.
inline constexpr std::size_t kMaxConflicts = 100;

/// An update, and what becomes of it where an earlier one has the same frontend.
struct Ranked {
  UpdatePtr update;  ///< Null: the source has not spoken yet.
  model::Combine combine = model::Combine::kIgnore;
};

/// Puts updates together, and remembers what it put together: a service of several sources keeps its pointer while none
/// of them changes.
class Merger {
 public:
  /// `updates` are in order of precedence, highest first. Where several services have one frontend the first decides:
  /// by source, then by position in its update. Endpoints of later sources are added as their `combine` says, to what
  /// the first says of everything else. Services keep their pointers. Updates that are sorted by frontend cost linear
  /// time.
  model::SnapshotPtr merge(std::span<const Ranked> updates, std::uint64_t generation);

 private:
  struct Combined {
    std::vector<std::pair<model::ServicePtr, model::Combine>> of;
    model::ServicePtr service;
  };
  model::ServicePtr combine(std::vector<std::pair<model::ServicePtr, model::Combine>> of,
                            std::map<model::Frontend, Combined>& next);

  std::map<model::Frontend, Combined> combined_;
};

}  // namespace mesh::discovery
