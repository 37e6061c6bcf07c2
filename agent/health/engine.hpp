// SPDX-License-Identifier: Apache-2.0
// Which endpoints are probed, when, and who is told: the prober without its thread. One thread, one loop.
//
// Targets are what is probed: one per dialled address and policy, however many services name it. A target lives as long
// as a watched service names it, so an endpoint that stays over a snapshot change keeps its state.
//
// Probes begin in rounds, at most one per kRound: that costs a few milliseconds of punctuality and saves thousands of
// wake-ups per second. The schedule itself is absolute (each probe is due a spacing after the last one was due), so
// neither rounds nor slow answers make it drift. A token bucket holds the rate; who waits for it is served in the order
// of being due.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "health/attempt.hpp"
#include "health/exchange_factory.hpp"
#include "health/probe_fsm.hpp"
#include "health/probe_stats.hpp"
#include "io/timer_heap.hpp"
#include "model/snapshot.hpp"

namespace mesh::health {

using UsedServices = std::unordered_set<model::Frontend, model::FrontendHash>;
using UsedServicesPtr = std::shared_ptr<const UsedServices>;
/// Changed services; a null health: not probed any more.
using HealthBatch = std::vector<std::pair<model::Frontend, model::ServiceHealthPtr>>;
using Publish = std::function<void(HealthBatch)>;

class Engine;
struct Watch;

/// One address under one policy.
struct Target {
  Target(Engine& owner, const base::SocketAddress& dialled, std::shared_ptr<const model::ProbePolicy> probe_policy,
         std::uint64_t phase_seed)
      : engine(owner), address(dialled), policy(std::move(probe_policy)), seed(phase_seed) {}
  void on_due(base::TimePoint now);

  Engine& engine;
  base::SocketAddress address;
  std::shared_ptr<const model::ProbePolicy> policy;
  std::uint64_t seed;
  std::uint64_t probes = 0;
  ProbeFsm fsm;
  std::vector<Watch*> watches;
  Attempt* attempt = nullptr;  ///< In flight.
  base::Fd connection;         ///< Kept alive between probes.
  base::TimePoint due{};
  io::MemberTimer<Target, &Target::on_due> timer{*this};
};

/// One service and its targets.
struct Watch {
  model::ServicePtr service;
  std::vector<Target*> targets;  ///< Parallel to service->endpoints; empty while not probed.
  std::uint64_t epoch = 0;       ///< Of the last snapshot that had it.
  bool probed = false;
  bool dirty = false;
};

class Engine final : public Attempt::Listener {
 public:
  struct Options {
    unsigned max_probes_per_second = 1000;
    std::uint64_t node_seed = 0;
    std::string user_agent;
    std::size_t in_flight_max = 4096;         ///< Each needs a descriptor and 5 KiB.
    std::size_t kept_connections_max = 8192;  ///< Above it, HTTP probes connect anew each time.
  };

  Engine(io::Loop& loop, Options options, ProbeCells& cells, Publish publish);
  ~Engine();  ///< After the loop's run() returned.
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set_services(model::SnapshotPtr snapshot);
  void set_used(UsedServicesPtr used);
  /// What was known before a restart: verdicts of endpoints that have no result yet.
  void restore(model::HealthView view);
  void set_max_probes_per_second(unsigned rate) { options_.max_probes_per_second = rate; }
  /// As of now, not as of the last transition; null: not probed.
  [[nodiscard]] model::ServiceHealthPtr latest(const model::Frontend& frontend) const;

  // Attempt::Listener
  std::expected<std::unique_ptr<Exchange>, Outcome> make_exchange(const Target& target) override;
  void on_outcome(Attempt& attempt, Target& target, Outcome outcome, base::Fd connection) override;
  void on_free(Attempt& attempt) override;

 private:
  friend struct Target;
  struct TargetKey {
    base::SocketAddress address;
    const model::ProbePolicy* policy;
    bool operator==(const TargetKey&) const = default;
  };
  struct TargetKeyHash {
    std::size_t operator()(const TargetKey& key) const noexcept;
  };
  struct PolicyHash {
    std::size_t operator()(const std::shared_ptr<const model::ProbePolicy>& policy) const noexcept;
  };
  struct PolicyEqual {
    bool operator()(const std::shared_ptr<const model::ProbePolicy>& a,
                    const std::shared_ptr<const model::ProbePolicy>& b) const noexcept {
      return *a == *b;
    }
  };

  void apply_some(base::TimePoint now);
  void adopt(const model::ServicePtr& service);
  void refresh_targets(Watch& watch);
  [[nodiscard]] bool wants_probes(const model::Service& service) const;
  Target& acquire(const base::SocketAddress& address, const std::shared_ptr<const model::ProbePolicy>& policy,
                  Watch& watch);
  void release(Target& target, Watch& watch);
  void restore_records(Watch& watch);

  void begin(Target& target, base::TimePoint now);
  void schedule(Target& target, base::TimePoint due);
  void plan_round();
  void on_round(base::TimePoint now);

  void mark_dirty(Watch& watch);
  void flush(base::TimePoint now);
  [[nodiscard]] static model::ServiceHealthPtr build(const Watch& watch);

  io::Loop& loop_;
  Options options_;
  ProbeCells& cells_;
  Publish publish_;
  ExchangeFactory exchanges_;

  std::unordered_map<model::Frontend, Watch, model::FrontendHash> watches_;
  std::unordered_map<TargetKey, std::unique_ptr<Target>, TargetKeyHash> targets_;
  std::unordered_set<std::shared_ptr<const model::ProbePolicy>, PolicyHash, PolicyEqual> policies_;
  model::HealthView restored_;
  UsedServicesPtr used_;

  model::SnapshotPtr snapshot_;       ///< Being applied, or applied.
  std::size_t applied_services_ = 0;  ///< How much of it is.
  std::uint64_t epoch_ = 0;

  std::vector<std::unique_ptr<Attempt>> attempts_;
  std::vector<Attempt*> free_attempts_;
  io::TimerHeap schedule_;  ///< Targets that are not in flight, by when they are due.
  double tokens_ = 1;
  base::TimePoint refilled_{};
  base::TimePoint last_round_{};
  base::TimePoint held_at_{};  ///< The last round that had to leave due targets waiting.

  std::vector<Watch*> dirty_;
  std::vector<model::Frontend> gone_;
  base::TimePoint flushed_{};

  io::MemberTimer<Engine, &Engine::apply_some> apply_timer_{*this};
  io::MemberTimer<Engine, &Engine::on_round> round_timer_{*this};
  io::MemberTimer<Engine, &Engine::flush> flush_timer_{*this};
};

}  // namespace mesh::health
