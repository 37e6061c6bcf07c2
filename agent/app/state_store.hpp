// SPDX-License-Identifier: Apache-2.0
// The last good state on disk: what a start with a broken configuration or absent sources begins with (invariant I7).
//
// One file, replaced atomically: a line with version, age, size and checksum, then JSON with the agent's settings and
// all services as they would stand in a service file. A file that is damaged or of another version is reported and not
// used, never half used.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "app/config.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "model/snapshot.hpp"

namespace mesh::app {

struct SavedState {
  AgentSettings agent;
  std::vector<model::ServicePtr> services;  ///< `source` and `origin` as they were.
  std::vector<discovery::SourceSpec> sources;
  base::WallTime saved_at{};
};

/// What is kept: the settings, the registries, and what each source said last.
struct StateToSave {
  AgentSettings agent;
  std::vector<discovery::SourceSpec> sources;
  model::SnapshotPtr snapshot;
};
std::string encode_state(const StateToSave& state, base::WallTime now);
/// kInvalid: damaged, or of another version.
base::Result<SavedState> decode_state(std::string_view content);

/// What an operator can do about a write that failed.
std::string remedy_for_unsaved(const base::Error& error);

/// When to write: at once after a quiet time, else once per interval. Pure.
class SavePolicy {
 public:
  static constexpr std::chrono::seconds kInterval{5};        ///< Between two writes.
  static constexpr std::chrono::seconds kRetryInterval{30};  ///< After one that failed.
  static constexpr std::chrono::milliseconds kSettle{500};   ///< Changes seldom come alone.

  void note_change(base::TimePoint now);
  void note_saved(base::TimePoint now, bool success);
  /// When the next write is due; nothing if all is saved.
  [[nodiscard]] std::optional<base::TimePoint> due() const;

 private:
  std::optional<base::TimePoint> changed_at_;  ///< The first change that is not saved.
  base::TimePoint not_before_{};
};

/// Writes in a thread of its own, so that no loop waits for a disk.
class StateStore {
 public:
  struct Status {
    base::WallTime saved_at{};  ///< Zero: not since start.
    std::size_t bytes = 0;
    std::optional<base::Error> error;  ///< Of the last write, while it stands.
  };

  explicit StateStore(const std::string& state_dir);
  ~StateStore();  ///< Writes what is still to be saved.
  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  /// Notes the newest state; the write follows by SavePolicy. From any thread.
  void save(StateToSave state);
  [[nodiscard]] Status status() const;

  static std::string path_in(const std::string& state_dir);  ///< "<state_dir>/last-good.state"
  /// kNotFound: there is none, as at a first start.
  static base::Result<SavedState> load(const std::string& state_dir);

 private:
  void run();

  const std::string path_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<StateToSave> pending_;  // guarded by mutex_, as all below
  SavePolicy policy_;
  Status status_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mesh::app
