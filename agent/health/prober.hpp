// SPDX-License-Identifier: Apache-2.0
// The health probes' own thread and loop, so that nothing the agent computes can look like a dead endpoint.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "health/engine.hpp"

namespace mesh::health {

class Prober {
 public:
  struct Options {
    io::LoopKind loop = io::LoopKind::kAutomatic;
    unsigned max_probes_per_second = 1000;
    std::uint64_t node_seed = 0;  ///< Differs from node to node, stays over restarts.
    std::string version;          ///< User-Agent: "meshd/<version> health-check"
  };

  explicit Prober(Options options);
  ~Prober();  ///< Stops.
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  /// Starts the thread, once. `publish` runs on it: services whose endpoints changed verdict (or had their first
  /// result, or appeared), batched, at most 100 times a second. Raises no limits: give the process descriptors.
  base::Result<void> start(Publish publish);
  /// Ends the thread and drops what is in flight; returns within milliseconds.
  void stop();

  // From any thread, before and after start(); a newer value replaces one that was not taken over yet.
  void set_services(model::SnapshotPtr snapshot);
  void set_used(UsedServicesPtr used);  ///< Services with `when: used` that are to be probed.
  void set_max_probes_per_second(unsigned rate);
  /// Verdicts from before a restart, for endpoints without a result yet. Before set_services() spares a flap.
  void restore(model::HealthView view);

  /// Records as of now (checked_at and detail are only current here, not in what was published), in the order asked
  /// for; null: not probed. Waits for the prober's thread, at most 1 s; empty if it does not answer. Not from publish.
  [[nodiscard]] std::vector<model::ServiceHealthPtr> latest(const std::vector<model::Frontend>& frontends);
  [[nodiscard]] model::ServiceHealthPtr latest(const model::Frontend& frontend);

  [[nodiscard]] ProbeStats stats();

 private:
  void take_mail();
  void notify();

  Options options_;
  ProbeCells cells_;
  io::LoopChoice loop_;
  std::unique_ptr<Engine> engine_;  ///< Touched by the thread only, between start() and stop().
  std::thread thread_;

  struct Mail {
    std::optional<model::SnapshotPtr> snapshot;
    std::optional<UsedServicesPtr> used;
    std::optional<model::HealthView> restored;
    std::optional<unsigned> rate;
  };
  std::mutex mutex_;
  Mail mail_;               ///< Guarded by mutex_, as the next two.
  bool announced_ = false;  ///< The thread knows that there is mail.
  bool running_ = false;
};

}  // namespace mesh::health
