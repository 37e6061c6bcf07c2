// SPDX-License-Identifier: Apache-2.0
// The watcher's part that ejects: from the books of the backends to the board, the log, the journal and the counters.
// What is decided, and when, is health/outlier.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "app/relay_endpoints.hpp"
#include "app/watcher.hpp"
#include "datapath/books.hpp"
#include "datapath/loader.hpp"
#include "health/outlier.hpp"
#include "observe/journal.hpp"
#include "observe/metrics.hpp"

namespace mesh::app {

using EjectionsByService = std::unordered_map<model::Frontend, observe::EjectionMetrics, model::FrontendHash>;

/// What the news of a backend's books mean for its service's ejection.
health::Experience experience_of(const datapath::BackendNews& backend, model::Protocol protocol,
                                 const model::EjectionPolicy& policy);

class Ejector {
 public:
  Ejector(datapath::Datapath& datapath, observe::Journal& journal);

  /// On the watcher's thread. `relayed`: what the relay's connections experienced since the last look.
  void look(const Watcher::Round& round, const RelayedNews& relayed);
  [[nodiscard]] EjectionsByService counts() const;  ///< From any thread; services without ejections are left out.

 private:
  void restore(const Watcher::Round& round);
  void take(const health::EjectionChange& change, health::StandingBoard& board);
  void count(const health::EjectionChange& change);

  datapath::Datapath& datapath_;
  observe::Journal& journal_;
  datapath::KernelBooks kernel_books_;
  model::RoutingTablePtr routing_;  ///< Of this round.
  datapath::Books books_;
  health::Outliers outliers_;
  bool restored_ = false;
  bool unreadable_told_ = false;
  mutable std::mutex mutex_;  ///< Guards counts_.
  EjectionsByService counts_;
};

}  // namespace mesh::app
