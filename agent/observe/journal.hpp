// SPDX-License-Identifier: Apache-2.0
// What happened on this node, on disk: one JSON object a line, files of a bounded size, the oldest is dropped. For
// `meshctl history`. Whoever notes something only fills a bounded queue; a thread of its own writes. A line that was
// cut by a crash, or is no event, is skipped when it is read.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/history.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::observe {

/// One line, with its end.
std::string encode_event(const api::HistoryEvent& event);
/// Calls `visit` for each line of `text` that is an event; returns how many are not. Never fails.
std::uint64_t decode_events(std::string_view text, const std::function<void(api::HistoryEvent)>& visit);
/// Whether `event` is about `service` (NAME, NAME:PORT or ADDR:PORT; empty: any).
bool is_about(const api::HistoryEvent& event, std::string_view service);

/// Holds back what comes again and again: the first event of a kind, service and endpoint passes at once; the others
/// within its window become one, with the newest text and the sum of their counts, when the window is over. Pure.
class Coalescer {
 public:
  static constexpr std::size_t kKeysMax = 10'000;  ///< What comes with more keys than that passes as it is.

  [[nodiscard]] std::optional<api::HistoryEvent> admit(api::HistoryEvent event, base::Duration window,
                                                       base::TimePoint now);
  [[nodiscard]] std::vector<api::HistoryEvent> take_due(base::TimePoint now);
  [[nodiscard]] std::optional<base::TimePoint> next_due() const;

 private:
  struct Window {
    base::TimePoint end{};
    base::Duration length{};
    std::optional<api::HistoryEvent> held;
  };
  std::map<std::string, Window, std::less<>> windows_;
};

class Journal {
 public:
  struct Options {
    std::string folder;
    std::size_t file_bytes = 4U << 20;
    unsigned files = 4;               ///< The one that is written and those before it.
    std::size_t queue_events = 8192;  ///< Waiting for the disk; what comes then is lost, and counted.
  };
  struct Status {
    std::uint64_t written = 0;
    std::uint64_t lost = 0;
    std::string error;  ///< Of the last write, while it stands.
  };

  explicit Journal(Options options);
  ~Journal();  ///< Writes what waits.
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// From any thread; never waits for the disk. An event without a time happens now. With a window, events of the same
  /// kind, service and endpoint are coalesced (Coalescer).
  void note(api::HistoryEvent event, base::Duration window = {});
  [[nodiscard]] Status status() const;
  /// Reads the files: as long as the disk takes, at most Options::files x file_bytes.
  [[nodiscard]] api::HistoryList read(const api::HistoryRequest& request, base::WallTime now) const;

 private:
  [[nodiscard]] std::string path(unsigned index) const;  ///< 0: the one that is written
  void run();
  base::Result<void> write(std::string_view lines);
  base::Result<void> open();
  void rotate();

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;  // guarded by mutex_, as all below
  Coalescer coalescer_;
  Status status_;
  bool stopping_ = false;

  base::Fd file_;  ///< The thread's own, as the next.
  std::size_t size_ = 0;
  std::thread thread_;
};

}  // namespace mesh::observe
