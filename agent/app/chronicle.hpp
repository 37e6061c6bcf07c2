// SPDX-License-Identifier: Apache-2.0
// Writes into the journal what the watcher sees change: routes, applied plans, repaired tables, refusals,
// pauses that ended. Ejections, drains and repaired books are noted by whoever decides on them.
#pragma once

#include <optional>
#include <string>

#include "app/change_notes.hpp"
#include "app/watcher.hpp"
#include "datapath/loader.hpp"
#include "observe/journal.hpp"

namespace mesh::app {

class Chronicle {
 public:
  Chronicle(const datapath::Datapath& datapath, observe::Journal& journal);
  /// On the watcher's thread.
  void look(const Watcher::Round& round);

 private:
  void look_at_repairs(const Reconciled& reconciled);
  void look_at_plans(const Reconciled& reconciled);
  void look_at_services(const Watcher::Round& round);

  const datapath::Datapath& datapath_;
  observe::Journal& journal_;
  RouteNotes routes_;
  RefusalNotes refusals_;
  PauseNotes pauses_;
  base::TimePoint services_at_{};
  std::uint64_t generation_ = 0;
  std::uint64_t repaired_ = 0;
  std::string error_;
};

}  // namespace mesh::app
