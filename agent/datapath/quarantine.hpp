// SPDX-License-Identifier: Apache-2.0
// The side thread that waits for grace periods, so that no update does. Requests that come while one is under way share
// the next one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/grace.hpp"

namespace mesh::datapath {

/// The backend ids that records of live sockets name. Called on the side thread, after a grace period.
using NamedBackends = std::function<base::Result<std::unordered_set<std::uint32_t>>()>;

class Quarantine {
 public:
  struct Passed {
    std::uint32_t token = 0;                                 ///< Batches up to this one may be released.
    std::optional<std::unordered_set<std::uint32_t>> named;  ///< Backend ids that stay; null: not asked for.
  };

  Quarantine(std::shared_ptr<Grace> grace, NamedBackends named);
  ~Quarantine();  ///< Waits for a grace period that is under way.
  Quarantine(const Quarantine&) = delete;
  Quarantine& operator=(const Quarantine&) = delete;

  /// Asks for a grace period that begins after this call. `token` never shrinks; an equal one asks again. Looking at
  /// all sockets can take tens of milliseconds of CPU time: asked for only now and then, or when room is short.
  enum class Sockets : bool { kIgnore, kAsk };
  void request(std::uint32_t token, Sockets sockets);
  /// What passed since the last call, if anything; never blocks.
  std::optional<base::Result<Passed>> take();
  /// As take(), but waits until everything requested has passed or failed, at most `limit`.
  std::optional<base::Result<Passed>> wait(base::Duration limit);

 private:
  void run();

  std::shared_ptr<Grace> grace_;
  NamedBackends named_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::uint32_t> requested_;
  Sockets sockets_ = Sockets::kIgnore;  // of what is requested
  bool busy_ = false;
  bool stop_ = false;
  std::optional<base::Result<Passed>> outcome_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace mesh::datapath
