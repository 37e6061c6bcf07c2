// SPDX-License-Identifier: Apache-2.0
// The up-current: what connections experienced, from the kernel back to the choice between backends. One thread that
// runs its parts one after the other, several times a second: drains the ring of events, reads the books, decides who
// is ejected, drained or warming up. What the parts put on the board becomes one offer to the reconciler at the end of
// the round. What a part decides is pure and lives elsewhere; here is only the rhythm.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "app/reconciler.hpp"
#include "base/clock.hpp"
#include "health/standing_board.hpp"

namespace mesh::app {

class Watcher {
 public:
  /// What all parts of one round see alike.
  struct Round {
    base::TimePoint now{};
    base::WallTime wall{};
    ReconciledPtr reconciled;  ///< The latest; its snapshot and routing may be null at the start.
    health::StandingBoard& board;
  };
  /// `work` runs on the watcher's thread, once per round, and must not wait for anything.
  struct Part {
    std::string name;
    std::function<void(const Round&)> work;
  };
  struct Options {
    base::Duration interval = std::chrono::milliseconds(200);
    base::Duration slow = std::chrono::milliseconds(100);  ///< A part that takes longer is named in the log, once.
  };

  Watcher(Options options, Reconciler& reconciler, std::vector<Part> parts);
  ~Watcher();  ///< Stops within a round.

  /// The first round is the caller's: what the parts know from an earlier agent is offered when this returns.
  void start();
  void stop();
  [[nodiscard]] base::Duration take_longest();  ///< The longest round since the last call; from any thread.

 private:
  void run();
  void look();

  const Options options_;
  Reconciler& reconciler_;
  const std::vector<Part> parts_;
  health::StandingBoard board_;
  std::vector<bool> slow_told_;  ///< Parallel to parts_.
  std::mutex mutex_;             ///< Guards what follows.
  std::condition_variable wake_;
  bool stopping_ = false;
  base::Duration longest_{};
  std::thread thread_;
};

}  // namespace mesh::app
