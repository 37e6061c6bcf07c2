// SPDX-License-Identifier: Apache-2.0
// Anti-entropy of the books: looks now and then whether they balance with the owner records, corrects what does not,
// and keeps what it did for status and metrics.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/book_audit.hpp"
#include "observe/journal.hpp"

namespace mesh::app {

class BookKeeper {
 public:
  struct State {
    std::uint64_t audits = 0;
    std::uint64_t repaired = 0;  ///< Books of backends, ever.
    base::WallTime repaired_at{};
    std::string last;                  ///< What was repaired last: one of it.
    std::uint64_t standing = 0;        ///< Found twice and not repaired.
    std::optional<base::Error> error;  ///< Why not, or why nothing was compared.
  };

  BookKeeper(const datapath::MapSet& maps, observe::Journal& journal, base::Duration interval)
      : maps_(maps), journal_(journal), interval_(interval) {}

  /// For a slow thread; does nothing until the interval is over.
  void look(base::TimePoint now);
  [[nodiscard]] State state() const;  ///< From any thread.

 private:
  base::Result<void> audit(State& state);

  const datapath::MapSet& maps_;
  observe::Journal& journal_;
  const base::Duration interval_;
  base::TimePoint audit_at_{};
  datapath::BookAudit audit_;
  mutable std::mutex mutex_;
  State state_;
};

}  // namespace mesh::app
