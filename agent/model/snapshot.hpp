// SPDX-License-Identifier: Apache-2.0
// What the agent believes: the merged services of all sources, and how fresh each source is.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "model/refusal.hpp"
#include "model/service.hpp"

namespace mesh::model {

enum class SourceState : std::uint8_t {
  kConnecting,  ///< No answer yet since start.
  kSynced,      ///< The last answer was whole and good.
  kStale,       ///< The last good answer stays in force; `since` says from when it is.
  kFailed,      ///< Never had an answer and the last try failed.
};
std::string_view to_string(SourceState state);

/// What of a later source becomes of a service that an earlier one has.
enum class Combine : std::uint8_t {
  kIgnore,    ///< Nothing: it is listed as a conflict.
  kUnion,     ///< Its endpoints are added.
  kFailover,  ///< Its endpoints are added as tiers of their own, after those of the earlier sources.
};
std::string_view to_string(Combine combine);

struct SourceStatus {
  std::string name;           ///< "file", or as `sources:` names it.
  std::string type = "file";  ///< "dns"
  SourceState state = SourceState::kConnecting;
  base::WallTime since{};                         ///< Of that state; zero: not noted.
  base::WallTime synced_at{};                     ///< Of the answer in force; zero if there is none.
  std::optional<std::chrono::seconds> max_stale;  ///< When stale for so long, `only_confirmed` begins. Nothing: never.
  bool only_confirmed = false;                    ///< Only endpoints whose probe succeeds are used.
  std::optional<base::Error> error;               ///< The last one, while it stands.
  std::uint64_t updates = 0;                      ///< Whole updates taken over.
  std::uint64_t errors = 0;
  std::array<std::uint64_t, base::kErrorKinds> errors_by_kind{};  ///< Where the source counts them so.
  std::size_t services = 0;
  std::size_t endpoints = 0;
  Refusals refusals;  ///< Answers of the registry that were refused, where its protocol has that.
};

/// One source's whole answer. Services that did not change keep their pointer from the last update.
struct Update {
  std::uint64_t generation = 0;  ///< Grows with each update of this source.
  std::vector<ServicePtr> services;
  SourceStatus status;
};
using UpdatePtr = std::shared_ptr<const Update>;

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
  std::vector<UpdatePtr> updates;  ///< What it was made of, in order of precedence.
  std::vector<Conflict> conflicts;

  /// The service with exactly this frontend, or null. Logarithmic.
  [[nodiscard]] const ServicePtr* find(const Frontend& frontend) const;
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace mesh::model
