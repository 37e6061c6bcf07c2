// SPDX-License-Identifier: Apache-2.0
// One list and watch of a Kubernetes API server: what has to be asked next, and what follows from an answer. Pure: who
// asks is agent/discovery/kubernetes.cpp.
//
//   list, page by page ─▶ watch from the list's version ─▶ watch from the last event's version ─▶ ...
//        ▲ 410 of a page: once more, unpaged      │ 410 Gone, as status or as an event; 504 too large version
//        └────────────────────────────────────────┘
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/backoff.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/random.hpp"
#include "discovery/kubernetes_objects.hpp"

namespace mesh::discovery::kubernetes {

inline constexpr unsigned kPageSize = 500;
inline constexpr unsigned kWatchMinSeconds = 300;  ///< How long a watch is asked to last: between these.
inline constexpr unsigned kWatchMaxSeconds = 600;
inline constexpr unsigned kMaxFailures = 5;  ///< Of a watch in a row; then everything begins anew.

class ListWatch {
 public:
  /// `path`: "/api/v1/services". `selector`: of labels; may be empty.
  ListWatch(std::string path, std::string selector) : path_(std::move(path)), selector_(std::move(selector)) {}

  [[nodiscard]] bool watching() const { return watching_; }
  /// No page of the list came yet: what the list says begins to replace what was known.
  [[nodiscard]] bool at_first_page() const { return !watching_ && next_.empty(); }
  /// A list came to its end once: what is known is whole.
  [[nodiscard]] bool listed() const { return listed_; }
  /// Path and query of the next request; `seconds`: how long a watch is to last.
  [[nodiscard]] std::string target(unsigned seconds) const;

  /// What follows from the end of a request.
  struct Next {
    std::optional<std::chrono::milliseconds> wait = std::chrono::milliseconds(0);  ///< Nothing: give up.
    std::optional<base::Error> error{};  ///< Something is wrong; without `wait` always there.
  };

  /// A page came; whether it was the last one.
  bool on_page(const ListMeta& page);
  /// A watch is established.
  void on_watch_start(base::TimePoint now);
  /// An event came, but kError: notes how far the watch is.
  void on_event(const Event& event, base::TimePoint now);
  /// The server ended the watch, which is normal, unless it began just now.
  Next on_watch_end(base::TimePoint now, base::Random& random);
  /// An answer without success, or an event kError. `error`: what to show of it.
  Next on_status(const Status& status, std::optional<std::chrono::seconds> retry_after, base::Error error,
                 base::TimePoint now, base::Random& random);
  /// No whole answer came.
  Next on_error(base::Error error, base::TimePoint now, base::Random& random);

 private:
  void list_again();
  Next retry(base::Error error, std::chrono::milliseconds at_least, base::TimePoint now, base::Random& random);

  std::string path_;
  std::string selector_;
  bool watching_ = false;
  bool listed_ = false;
  bool paged_ = true;
  std::string next_;     // token of the next page
  std::string version_;  // the watch goes on after this
  base::TimePoint started_{};
  bool heard_ = false;  // an event came on this watch
  unsigned failures_ = 0;
  base::Backoff backoff_{{.base = std::chrono::milliseconds(800)}};
};

}  // namespace mesh::discovery::kubernetes
