// SPDX-License-Identifier: Apache-2.0
// The worker that turns what sources and probes say into kernel tables: merge -> route -> compile -> write, in river
// order, on one thread of its own, so that a big compile never delays a probe or an admin request. Inputs are
// mailboxes, newest wins; nothing waits when it is idle. What it did is published as one immutable value.
//
// At the start nothing is applied before every source has spoken once: a source that is merely slow must not empty the
// tables that an earlier agent left behind. Each source says something within a bounded time, if only that it knows
// nothing (discovery/source_book.hpp); one that is added later is waited for by nobody.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "app/relay_ports.hpp"
#include "balance/route.hpp"
#include "base/clock.hpp"
#include "datapath/writer.hpp"
#include "discovery/merge.hpp"
#include "discovery/source.hpp"
#include "model/health_view.hpp"
#include "model/routing.hpp"
#include "model/standing.hpp"
#include "observe/histogram.hpp"

namespace mesh::app {

using HealthChanges = std::vector<std::pair<model::Frontend, model::ServiceHealthPtr>>;

/// What the worker knows and did, whole; never null once published.
struct Reconciled {
  model::SnapshotPtr snapshot;          ///< Desired.
  model::RoutingTablePtr routing;       ///< Desired.
  model::RoutingTablePtr kernel;        ///< The same as the kernel has it: services that are relayed have stand-ins.
  std::size_t without_relay_port = 0;   ///< Services that are refused because kRelayPortsMax others are relayed.
  std::uint64_t kernel_generation = 0;  ///< Of the routing table that the kernel has whole; 0: none yet.
  base::WallTime applied_at{};
  base::Duration apply_duration{};
  observe::Histogram apply_durations = observe::make_work_histogram();
  observe::Histogram change_latencies = observe::make_work_histogram();  ///< Offered to applied.
  std::uint64_t applies = 0;
  std::uint64_t failures = 0;
  std::optional<base::Error> error;  ///< Of the last apply, while it stands.
  datapath::Usage usage;
  std::uint64_t audits = 0;
  base::WallTime audited_at{};             ///< When the kernel's tables were last read and found or made right.
  std::uint64_t drift_repaired = 0;        ///< Differences that audits found and repaired, ever.
  base::WallTime drift_at{};               ///< When there were some last.
  std::string drift_last;                  ///< One of them.
  std::optional<base::Error> audit_error;  ///< Why the last audit could not compare or repair.
};
using ReconciledPtr = std::shared_ptr<const Reconciled>;

class Reconciler {
 public:
  using Job = std::move_only_function<void(datapath::Writer&, const Reconciled&)>;
  /// A source, and what becomes of it where an earlier one has the same service.
  struct Precedence {
    std::string source;
    model::Combine combine = model::Combine::kIgnore;
    bool operator==(const Precedence&) const = default;
  };
  struct Options {
    std::vector<Precedence> sources;                         ///< At first; see set_sources().
    base::Duration retry = std::chrono::seconds(1);          ///< After a failed apply.
    base::Duration tidy_interval = std::chrono::seconds(5);  ///< Between looks at the quarantine.
    base::Duration audit_interval = std::chrono::seconds(30);
    model::Place here;          ///< Of this agent.
    RelayPorts relay_ports{0};  ///< With what an earlier agent gave.
  };
  /// Called on the worker's thread after each round that changed something.
  using Published = std::function<void(ReconciledPtr)>;

  /// `writer` outlives the reconciler and is used by its thread only.
  Reconciler(Options options, datapath::Writer& writer, model::HealthView restored, Published published);
  ~Reconciler();  ///< Stops after the apply that is under way.

  void start();
  void stop();

  // From any thread.
  void offer(const std::string& source, discovery::UpdatePtr update);
  /// All sources in order of precedence. What those said that are not named any more is forgotten.
  void set_sources(std::vector<Precedence> sources);
  void offer(HealthChanges changes);
  void offer(model::StandingChanges changes);
  /// Runs `job` on the worker's thread, between rounds: what needs the writer and is no input.
  void run(Job job);
  [[nodiscard]] ReconciledPtr latest() const;
  /// How long the oldest input that is not in the kernel has been waiting for it; zero: none is.
  [[nodiscard]] base::Duration behind(base::TimePoint now) const;

 private:
  /// Mailboxes: what was offered since the last round.
  struct Inputs {
    std::map<std::string, discovery::UpdatePtr> updates;
    std::optional<std::vector<Precedence>> sources;
    HealthChanges health;
    model::StandingChanges standing;
    [[nodiscard]] bool empty() const { return updates.empty() && !sources && health.empty() && standing.empty(); }
  };

  void work();
  bool take_inputs(Inputs inputs);
  void look_at_ports();
  bool merge();
  void apply();
  void audit();
  void forget_unprobed();
  void publish();
  void caught_up();
  template <typename Put>
  void put_input(const Put& put);

  const Options options_;
  datapath::Writer& writer_;
  const Published published_;

  mutable std::mutex mutex_;  ///< Guards the mailboxes and `latest_`.
  std::condition_variable wake_;
  Inputs inbox_;
  base::TimePoint inbox_since_{};                ///< When the oldest input in the mailboxes was offered.
  std::optional<base::TimePoint> behind_since_;  ///< Offered then, taken, and not in the kernel yet.
  std::vector<Job> inbox_jobs_;
  bool stopping_ = false;
  ReconciledPtr latest_ = std::make_shared<const Reconciled>();

  // The worker's own.
  std::vector<Precedence> sources_;
  discovery::Merger merger_;
  std::map<std::string, discovery::UpdatePtr> updates_;
  model::HealthView health_;
  model::StandingView standing_;
  base::TimePoint input_since_{};
  std::uint64_t merges_ = 0;
  balance::Router router_;
  RelayPorts relay_ports_;
  Reconciled state_;
  base::TimePoint retry_at_ = base::TimePoint::max();
  base::TimePoint audit_at_ = base::TimePoint::max();
  base::TimePoint tidy_at_ = base::TimePoint::max();
  std::thread thread_;
};

}  // namespace mesh::app
