// SPDX-License-Identifier: Apache-2.0
// From a change in what the agent is told to its effect in connect(), as an application sees it: a service whose only
// usable endpoint listens, or does not.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"

namespace mesh::bench {

inline constexpr std::uint16_t kOpenPort = 19001;  ///< OpenPort listens at it; nothing does at the ports after it.

/// kOpen: connects are accepted; kClosed: refused.
enum class Side : std::uint8_t { kOpen, kClosed };

/// Accepts at 127.0.0.1:kOpenPort for as long as it stands. Ends the program if it can't.
class OpenPort {
 public:
  OpenPort();
  ~OpenPort();
  OpenPort(const OpenPort&) = delete;
  OpenPort& operator=(const OpenPort&) = delete;

 private:
  base::Fd listener_;
  std::atomic<bool> stop_ = false;
  std::thread acceptor_;
};

/// Connects until each change shows. A slow one doesn't delay the next, so slow ones aren't left out (coordinated
/// omission); one that isn't in force after a second is counted as lost.
class Watcher {
 public:
  struct Change {
    base::SocketAddress service;
    Side side;
    base::TimePoint made;
  };
  Watcher();
  ~Watcher() { finish(); }

  void add(Change change);
  /// Returns when nothing is outstanding.
  void finish();

  // After finish().
  [[nodiscard]] unsigned lost() const { return lost_; }
  /// "lost", "histogram" (lines for people), and if there were any changes "median_ms", "p99_ms", "max_ms".
  [[nodiscard]] nlohmann::json report() const;

 private:
  void run();
  bool settled(const Change& change);

  std::mutex mutex_;
  std::vector<Change> fresh_;
  std::atomic<bool> finished_ = false;
  std::vector<double> latencies_ms_;
  unsigned lost_ = 0;
  std::thread thread_;
};

}  // namespace mesh::bench
