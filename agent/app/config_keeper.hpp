// SPDX-License-Identifier: Apache-2.0
// The configuration in force, and its reloads: on a file event, SIGHUP or `meshctl reload`. A reload is parsed on a
// thread of its own and takes effect whole, or not at all: a broken file leaves the last good configuration in force
// and is remembered with its findings, for status and metrics.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "app/config.hpp"
#include "base/clock.hpp"
#include "discovery/file.hpp"
#include "discovery/file_watcher.hpp"
#include "io/loop.hpp"

namespace mesh::app {

/// What the agent starts with.
struct StartConfig {
  std::string path;                    ///< meshd.yaml
  Config config;                       ///< In force; from the last good snapshot on disk if `refused` is set.
  discovery::Restored restored;        ///< The last good services on disk, for files that can't be read now.
  std::optional<base::Error> refused;  ///< Why the file itself could not be taken.
  std::vector<Diagnostic> findings;    ///< Of the file, if it was refused.
  base::WallTime loaded_at{};
};

/// What keeps a reloaded value from taking effect before the next start: changed keys of `agent:`.
std::vector<std::string> keys_that_need_restart(const AgentSettings& running, const AgentSettings& loaded);

class ConfigKeeper {
 public:
  enum class Cause { kFileEvent, kRequest };
  struct Reloaded {
    bool ok = false;
    Cause cause = Cause::kRequest;
  };
  /// Called on the loop's thread after each reload; state() tells the rest.
  using OnReload = std::function<void(const Reloaded&)>;
  using Done = std::move_only_function<void()>;

  ConfigKeeper(io::Loop& loop, StartConfig start, OnReload on_reload);
  ~ConfigKeeper();

  /// Starts watching the file and its conf.d.
  base::Result<void> watch();

  /// Parses the files again. `done` is called on the loop's thread after on_reload. Requests that come while one is
  /// under way share the next one.
  void reload(Cause cause, Done done);

  struct State {
    std::string path;
    Config config;          ///< In force.
    AgentSettings running;  ///< What the process started with.
    base::WallTime loaded_at{};
    base::WallTime reloaded_at{};  ///< Of the last try; zero: none.
    bool last_ok = true;
    bool from_state = false;           ///< `config` comes from the last good snapshot on disk.
    std::vector<Diagnostic> findings;  ///< Errors of the last try.
    std::vector<std::string> needs_restart;
    std::uint64_t reloads = 0;
    std::uint64_t failures = 0;
  };
  [[nodiscard]] const State& state() const { return state_; }

 private:
  void on_file_event(std::int32_t result);
  void start_thread();
  void finish(LoadResult result, Cause cause);

  io::Loop& loop_;
  const OnReload on_reload_;
  State state_;
  std::optional<discovery::FileWatcher> watcher_;
  io::MemberOperation<ConfigKeeper, &ConfigKeeper::on_file_event> file_event_{*this};
  std::thread parser_;
  bool parsing_ = false;
  std::optional<Cause> wanted_;  ///< The next reload, if one is asked for.
  std::vector<Done> waiting_;    ///< For the next reload.
  std::vector<Done> under_way_;  ///< For the one that is parsed now.
};

}  // namespace mesh::app
