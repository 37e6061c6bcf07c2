// SPDX-License-Identifier: Apache-2.0
// The source that needs no registry: services in the configuration and in watched files and folders.
//
// One thread waits for inotify and for commands. A file that changed is read again alone, and only services that really
// changed get new pointers. A file that is broken or gone keeps its last good services and makes the source stale
// (invariant I7); an empty list in a good file is meant. Nothing is waited for when idle: a change is published at
// once, and what arrives while the thread is busy is taken in one go.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "discovery/source.hpp"
#include "discovery/source_input.hpp"

namespace mesh::discovery {

/// What was in force when the agent last ran, for files that can't be read now.
struct Restored {
  std::vector<model::ServicePtr> services;
  base::WallTime saved_at{};
};

/// What becomes of a file that is gone from a watched folder.
enum class Vanished {
  kKeep,    ///< Its services stay, stale: nobody can tell a deleted file from one that got lost.
  kForget,  ///< Somebody asked for a reload by hand: what is gone is meant to be gone.
};

class FileSource final : public Source {
 public:
  struct Options {
    Restored restored;
    /// Everything is looked at again this often, for what inotify can't see (network file systems).
    std::chrono::milliseconds rescan_interval{30'000};
  };

  explicit FileSource(SourceInput input) : FileSource(std::move(input), Options{}) {}
  FileSource(SourceInput input, Options options);
  ~FileSource() override;

  void start(Publish publish) override;
  void stop() override;

  /// Takes over a new configuration, from any thread. Files that both name keep what was read from them. The newest
  /// input wins; an update follows in any case.
  void reconfigure(SourceInput input, Vanished vanished = Vanished::kKeep);

  /// The configuration can't be read: the last input stays in force and the source is stale for this reason, until the
  /// next reconfigure(). From any thread.
  void set_stale(base::Error reason);

 private:
  struct Command {
    std::optional<SourceInput> input;
    std::optional<base::Error> stale;
    Vanished vanished = Vanished::kKeep;
  };
  void wake();
  void run(const Publish& publish);

  Options options_;
  std::mutex mutex_;
  Command command_;  // guarded by mutex_
  std::atomic<bool> stopping_{false};
  base::Fd event_;
  std::thread thread_;
};

}  // namespace mesh::discovery
