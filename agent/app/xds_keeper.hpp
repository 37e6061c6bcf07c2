// SPDX-License-Identifier: Apache-2.0
// Keeps the agent's own xDS server supplied with where connections go, on a thread of its own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "app/xds_view.hpp"
#include "base/error.hpp"
#include "model/refusal.hpp"
#include "xds/library.hpp"

namespace mesh::app {

class XdsKeeper {
 public:
  struct Options {
    std::string listen;  ///< As the configuration has it: "127.0.0.1:18000" or "unix:///path".
    model::Place here;
    std::string domain;
  };

  explicit XdsKeeper(Options options);
  ~XdsKeeper() { stop(); }

  /// Listens. kUnsupported: the library is not installed.
  base::Result<void> start();
  void stop();

  /// From any thread; the newest counts.
  void set_routing(model::RoutingTablePtr routing);
  [[nodiscard]] xds::ServerStats stats() const { return server_->stats(); }
  /// What clients refused last.
  [[nodiscard]] model::Refusals refusals() const;

 private:
  void run();
  void note_refusal(const xds::Refused& refused);  ///< From threads of the library.

  const Options options_;
  XdsView view_;  ///< Of the thread.
  std::unique_ptr<xds::Server> server_;
  mutable std::mutex mutex_;  ///< Guards all below.
  std::condition_variable changed_;
  model::RoutingTablePtr routing_;
  model::Refusals refusals_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mesh::app
