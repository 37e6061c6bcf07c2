// SPDX-License-Identifier: Apache-2.0
// What the agent believes: the merged services of all sources, and how fresh each source is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "model/service.hpp"

namespace mesh::model {

enum class SourceState : std::uint8_t {
  kConnecting,  ///< No answer yet since start.
  kSynced,      ///< The last answer was whole and good.
  kStale,       ///< The last good answer stays in force; `since` says from when it is.
  kFailed,      ///< Never had an answer and the last try failed.
};
std::string_view to_string(SourceState state);

struct SourceStatus {
  std::string name;  ///< "file"
  SourceState state = SourceState::kConnecting;
  base::WallTime synced_at{};        ///< Of the answer in force; zero if there is none.
  std::optional<base::Error> error;  ///< The last one, while it stands.
  std::uint64_t updates = 0;         ///< Whole updates taken over.
  std::uint64_t errors = 0;
  std::size_t services = 0;
  std::size_t endpoints = 0;
};

/// One source's whole answer. Services that did not change keep their pointer from the last update.
struct Update {
  std::uint64_t generation = 0;  ///< Grows with each update of this source.
  std::vector<ServicePtr> services;
  SourceStatus status;
};

/// Two sources, or two entries of one, claim the same frontend: the first in precedence wins, the other is listed.
struct Conflict {
  Frontend frontend;
  std::string winner;  ///< "orders (meshd.yaml:6)"
  std::string loser;
};

struct Snapshot {
  std::uint64_t generation = 0;
  std::vector<ServicePtr> services;  ///< Sorted by frontend, no frontend twice.
  std::vector<SourceStatus> sources;
  std::vector<Conflict> conflicts;

  /// The service with exactly this frontend, or null. Logarithmic.
  [[nodiscard]] const ServicePtr* find(const Frontend& frontend) const;
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace mesh::model
