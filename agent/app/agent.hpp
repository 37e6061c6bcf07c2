// SPDX-License-Identifier: Apache-2.0
// The agent, whole: everything is constructed here, in river order, and lives until run() returns.
//
// Threads: the control loop (this one: admin, metrics, canary, signals, timers), the file source, one per registry, the
// prober, the reconciler with its grace thread, the watcher, the drainer, and the housekeeper. They meet in mailboxes
// and published immutable values only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "api/control.hpp"
#include "api/status.hpp"
#include "app/admin_backend.hpp"
#include "app/admin_server.hpp"
#include "app/book_keeper.hpp"
#include "app/canary_runner.hpp"
#include "app/certificate_keeper.hpp"
#include "app/chronicle.hpp"
#include "app/config_keeper.hpp"
#include "app/drainer.hpp"
#include "app/ejector.hpp"
#include "app/housekeeper.hpp"
#include "app/jobs.hpp"
#include "app/lifecycle.hpp"
#include "app/names_keeper.hpp"
#include "app/reconciler.hpp"
#include "app/record_keeper.hpp"
#include "app/relay_keeper.hpp"
#include "app/scrape.hpp"
#include "app/service_metrics.hpp"
#include "app/source_keeper.hpp"
#include "app/state_store.hpp"
#include "app/used_services.hpp"
#include "app/watcher.hpp"
#include "app/xds_keeper.hpp"
#include "base/sd_notify.hpp"
#include "datapath/event_ring.hpp"
#include "datapath/loader.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/writer.hpp"
#include "discovery/file.hpp"
#include "health/prober.hpp"
#include "health/slow_start.hpp"
#include "io/loop.hpp"
#include "observe/flows.hpp"
#include "observe/journal.hpp"

namespace mesh::app {

class AgentAdmin;

class Agent {
 public:
  /// Makes everything and takes over, or makes, what is in the kernel. Nothing is served yet.
  static base::Result<std::unique_ptr<Agent>> make(StartConfig start, Signals signals);
  ~Agent();

  /// Serves until SIGTERM, SIGINT or a detach by the admin API. What is in the kernel stays, unless it was detached.
  base::Result<void> run();

 private:
  friend class AgentAdmin;
  Agent(StartConfig start, Signals signals);

  base::Result<void> make_parts();
  base::Result<void> make_kernel_side();
  base::Result<void> make_sources();
  base::Result<void> make_workers();
  base::Result<void> make_names();
  base::Result<void> make_relay();
  [[nodiscard]] std::vector<std::string> cgroup_folders() const;
  [[nodiscard]] RelayPorts relay_ports_from_kernel() const;
  base::Result<void> exempt_relay(std::span<const pid_t> relays);
  base::Result<void> make_xds();
  [[nodiscard]] std::vector<Watcher::Part> make_watcher_parts();
  base::Result<void> make_admin();

  void on_signal(int signal);
  void on_tick(base::TimePoint now);
  void on_reload(const ConfigKeeper::Reloaded& reloaded);
  void on_looked(HousekeptPtr housekept);
  void on_reconciled(const Reconciled& reconciled);
  void tell_ready();
  void keep_house();
  void offer_canary_services();
  void set_vip_routes(bool wanted);
  void keep_state(const model::SnapshotPtr& snapshot);
  [[nodiscard]] model::HealthView health_from_kernel() const;
  void stop();

  // For AgentAdmin.
  void reload(Reply<api::ReloadView> reply);
  void detach(Reply<api::DetachView> reply);
  [[nodiscard]] api::ProbesView probes_view();
  [[nodiscard]] api::ConfigState config_state() const;
  observe::MetricsInput gather_metrics();
  base::Result<void> complete_metrics(observe::MetricsInput& input);

  StartConfig start_;
  Signals signals_;
  const base::WallTime started_at_ = base::wall_now();

  io::LoopChoice loop_;
  base::ServiceNotifier notifier_;
  datapath::OwnCgroup own_cgroup_;
  std::unique_ptr<datapath::Datapath> datapath_;
  std::unique_ptr<datapath::Writer> writer_;
  std::unique_ptr<CanaryRunner> canary_;
  std::unique_ptr<ConfigKeeper> config_;
  std::unique_ptr<discovery::FileSource> files_;
  std::unique_ptr<discovery::VipPool> vips_;
  std::unique_ptr<SourceKeeper> sources_;
  std::unique_ptr<StateStore> state_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<health::Prober> prober_;
  std::unique_ptr<NamesKeeper> names_;  ///< Null: not wanted.
  std::unique_ptr<RelayKeeper> relay_;
  std::unique_ptr<XdsKeeper> xds_;  ///< Null: not wanted.
  observe::FlowLog flows_;
  std::optional<datapath::EventRing> events_;
  std::unique_ptr<observe::Journal> journal_;
  std::unique_ptr<Chronicle> chronicle_;
  std::unique_ptr<Ejector> ejector_;
  health::SlowStart slow_start_;  ///< Of the watcher's thread.
  std::unique_ptr<Drainer> drainer_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<BookKeeper> books_;
  std::unique_ptr<RecordKeeper> records_;
  std::unique_ptr<Housekeeper> housekeeper_;
  std::unique_ptr<CertificateKeeper> certificate_;  ///< Of the metrics listener; null: no TLS.
  std::unique_ptr<AgentAdmin> admin_;
  std::unique_ptr<ServiceMetricsReader> service_metrics_;
  std::unique_ptr<Scrape> scrape_;
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<AdminServer> server_;
  io::MemberTimer<Agent, &Agent::on_tick> tick_{*this};

  UsedServices used_;                     ///< The housekeeper's own.
  HousekeptPtr housekept_;                ///< The loop's copy of the last look.
  base::Duration longest_step_{};         ///< Ever.
  base::Duration scrape_longest_step_{};  ///< Since the last scrape.
  std::uint64_t canary_failures_ = 0;
  base::Duration probes_longest_step_{};  ///< Since the last scrape, as the next.
  base::Duration probes_lateness_max_{};
  base::TimePoint watchdog_at_{};
  base::TimePoint experience_at_{};  ///< The housekeeper's.
  health::ProbeStats probe_stats_;   ///< Of the last tick.
  std::uint64_t probes_before_ = 0;  ///< Probes done until the tick before.
  double probes_per_second_ = 0;
  std::optional<base::TimePoint> applied_at_;  ///< When the first tables were in the kernel.
  bool ready_told_ = false;
  bool stopping_ = false;
  bool detached_ = false;
};

}  // namespace mesh::app
