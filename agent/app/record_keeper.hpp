// SPDX-License-Identifier: Apache-2.0
// Anti-entropy of the owner records: looks now and then, on a thread that may block, whether those that are old still
// have a socket, frees those that don't (datapath/census.hpp decides), and keeps what it did for status and metrics.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/loader.hpp"

namespace mesh::app {

class RecordKeeper {
 public:
  struct Options {
    base::Duration interval{};  ///< Between passes; a younger record is not looked for.
  };
  struct State {
    std::uint64_t passes = 0;
    std::uint64_t freed = 0;           ///< Ever.
    std::uint64_t unreachable = 0;     ///< In the last pass: not met, and in a namespace that can't be entered.
    std::optional<base::Error> error;  ///< Why the last pass could not be made.
  };

  /// `datapath` outlives the keeper.
  RecordKeeper(Options options, const datapath::Datapath& datapath) : options_(options), datapath_(datapath) {}
  ~RecordKeeper() { stop(); }
  void start();
  void stop();                        ///< After the pass that is under way.
  [[nodiscard]] State state() const;  ///< From any thread.

 private:
  void run();
  base::Result<void> look(State& state);

  const Options options_;
  const datapath::Datapath& datapath_;
  std::optional<datapath::Census> census_;
  datapath::StaleRecords stale_;
  mutable std::mutex mutex_;  ///< Guards what follows.
  std::condition_variable wake_;
  bool stopping_ = false;
  State state_;
  std::thread thread_;
};

}  // namespace mesh::app
