// SPDX-License-Identifier: Apache-2.0
#include "app/agent.hpp"

#include <signal.h>

#include <algorithm>

#include "app/agent_admin.hpp"
#include "app/internal_source.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"
#include "datapath/unreachable_route.hpp"

namespace mesh::app {
namespace {

using datapath::Table;

constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kCanaryPatience = std::chrono::seconds(5);  // READY does not wait longer for the first canary connects
/// What an endpoint that goes had in its books and was not looked at is in no total: at most that of so long.
constexpr auto kExperienceInterval = std::chrono::seconds(5);

}  // namespace

Agent::Agent(StartConfig start, Signals signals) : start_(std::move(start)), signals_(std::move(signals)) {}

Agent::~Agent() {
  // Whoever hands something over stops before whoever takes it.
  if (files_) files_->stop();
  if (records_) records_->stop();
  if (housekeeper_) housekeeper_->stop();
  if (sources_) sources_->stop();
  if (prober_) prober_->stop();
  if (watcher_) watcher_->stop();
  if (drainer_) drainer_->stop();
  if (reconciler_) reconciler_->stop();
  if (names_) names_->stop();
  if (relay_) relay_->stop();
  if (xds_) xds_->stop();
}

base::Result<void> Agent::run() {
  signals_.watch(*loop_.loop, [this](int signal) { on_signal(signal); });
  MESH_CHECK(prober_->start([this](health::HealthBatch batch) { reconciler_->offer(std::move(batch)); }));
  reconciler_->offer(drainer_->standing());  // before the first tables: a drained endpoint gets nothing meanwhile
  watcher_->start();  // before anything is applied: the tables still say whom an earlier agent ejected
  reconciler_->start();
  offer_canary_services();
  files_->start(
      [this](discovery::UpdatePtr update) { reconciler_->offer(std::string(kFileSource), std::move(update)); });
  sources_->configure(start_.config.sources, *reconciler_);
  set_vip_routes(!start_.config.sources.empty());
  drainer_->start();
  records_->start();
  housekeeper_->start();
  on_tick(loop_.loop->now());
  base::log::info("meshd started", {{"version", kVersion}, {"cgroups", datapath_->cgroups().size()}});
  loop_.loop->run();
  if (detached_) {
    canary_.reset();  // its process is in our cgroup, which is to go too
    datapath::leave_own_cgroup(own_cgroup_);
  }
  base::log::info(detached_ ? "meshd stopped; everything is out of the kernel"
                            : "meshd stopped; the kernel keeps balancing");
  return {};
}

/// Without the mesh an address of the range leads nowhere: a client that no hook covers shall hear that at once.
void Agent::set_vip_routes(bool wanted) {
  const AgentSettings& settings = start_.config.agent;
  if (!settings.vip_route) return;
  for (const discovery::VipRange& range : {settings.vips4, settings.vips6}) {
    const auto done = wanted ? datapath::add_unreachable_route(range.ip, range.bits)
                             : datapath::remove_unreachable_route(range.ip, range.bits);
    if (!done) base::log::warn("route of the virtual addresses not changed", {{"err", done.error()}});
  }
}

void Agent::offer_canary_services() {
  auto update = std::make_shared<model::Update>();
  update->generation = 1;
  if (canary_) update->services = canary_->services();
  update->status.name = kInternalSource;
  update->status.state = model::SourceState::kSynced;
  reconciler_->offer(std::string(kCanaryOffers), std::move(update));
}

/// Notes the last good state, unless what is in force came from it.
void Agent::keep_state(const model::SnapshotPtr& snapshot) {
  if (config_->state().from_state) return;
  const Config& config = config_->state().config;
  state_->save({config.agent, config.sources, snapshot});
}

void Agent::on_signal(int signal) {
  if (signal == SIGHUP) {
    reload([](const base::Result<api::ReloadView>&) {});
    return;
  }
  stop();
}

void Agent::stop() {
  if (std::exchange(stopping_, true)) return;
  notifier_.stopping();
  server_->stop([this] { loop_.loop->stop(); });
}

void Agent::on_tick(base::TimePoint now) {
  loop_.loop->arm(tick_, now + kTick);
  const base::Duration step = loop_.loop->take_longest_step();
  longest_step_ = std::max(longest_step_, step);
  scrape_longest_step_ = std::max(scrape_longest_step_, step);
  probe_stats_ = prober_->stats();
  probes_longest_step_ = std::max(probes_longest_step_, probe_stats_.longest_step);
  probes_lateness_max_ = std::max(probes_lateness_max_, probe_stats_.lateness_max);
  std::uint64_t probes = 0;
  for (const auto& type : probe_stats_.types) {
    for (const std::uint64_t results : type.results) probes += results;
  }
  probes_per_second_ = static_cast<double>(probes - probes_before_);
  probes_before_ = probes;
  // For the service manager a first table in the kernel is enough: a cgroup that does not exist yet must not keep the
  // unit from starting. /readyz asks for more.
  tell_ready();
  if (const auto interval = notifier_.watchdog_interval(); interval && now >= watchdog_at_) {
    watchdog_at_ = now + *interval;
    notifier_.watchdog();
  }
}

void Agent::on_looked(HousekeptPtr housekept) {
  housekept_ = std::move(housekept);
  tell_ready();
}

void Agent::on_reconciled(const Reconciled& reconciled) {
  keep_state(reconciled.snapshot);
  if (applied_at_ || reconciled.kernel_generation == 0 || stopping_) return;
  applied_at_ = loop_.loop->now();
  if (canary_) canary_->watch(datapath_->cgroups());  // before, its own service is in no table
  tell_ready();
}

/// Once: the first tables are in the kernel, the hooks were looked at, and the canary has tried each cgroup, whatever
/// came of it: with a hook that does not work the agent is up and says so.
void Agent::tell_ready() {
  if (ready_told_ || !applied_at_ || !housekept_) return;
  const bool proven = !canary_ || canary_->reports().size() >= datapath_->cgroups().size();
  const bool paused = !describe_pause(datapath_->maps().control().pass_until_ns, base::wall_now()).empty();
  if (!proven && !paused && loop_.loop->now() < *applied_at_ + kCanaryPatience) return;
  ready_told_ = true;
  notifier_.ready("serving");
}

/// On the housekeeper's thread.
void Agent::keep_house() {
  if (certificate_) certificate_->look();
  if (names_) names_->look();
  relay_->look();
  sources_->look();
  books_->look(base::steady_now());
  const auto reconciled = reconciler_->latest();
  if (!reconciled->snapshot) return;
  if (const auto now = base::steady_now(); now >= experience_at_) {
    experience_at_ = now + kExperienceInterval;
    if (const auto noted = service_metrics_->note(*reconciled); !noted) {
      base::log::warn("counters of services not read", {{"err", noted.error()}});
    }
  }
  const datapath::MapSet& maps = datapath_->maps();
  const auto used = used_.look(base::steady_now(), [&](const auto& see) {
    for (std::uint32_t id = 1; id < maps.sizes().services; ++id) {
      const auto service = maps.read<mesh_service>(Table::kServices, id);
      if (service.flags == 0) continue;
      const auto counts = datapath::read_service_counts(maps, id);
      see(datapath::frontend_of(service.frontend), counts.connects + counts.datagrams + counts.refused);
    }
  });
  if (used) prober_->set_used(used);
  const auto now_ns = static_cast<std::uint64_t>(base::steady_now().time_since_epoch().count());
  if (const auto swept = datapath::sweep_affinity(maps, now_ns); !swept) {
    base::log::warn("session affinity not swept", {{"err", swept.error()}});
  }
}

void Agent::on_reload(const ConfigKeeper::Reloaded& reloaded) {
  const ConfigKeeper::State& state = config_->state();
  if (!reloaded.ok) {
    files_->set_stale(base::Error{base::ErrorKind::kInvalid,
                                  "the configuration was refused: " + state.findings.front().to_string(),
                                  "correct it; `meshctl config validate` shows all findings", 0});
    return;
  }
  const AgentSettings& settings = state.config.agent;
  if (const auto level = base::log::level_from(settings.log_level)) base::log::set_level(*level);
  prober_->set_max_probes_per_second(settings.max_probes_per_second);
  files_->reconfigure(state.config.source_input(), reloaded.cause == ConfigKeeper::Cause::kRequest
                                                       ? discovery::Vanished::kForget
                                                       : discovery::Vanished::kKeep);
  sources_->configure(state.config.sources, *reconciler_);
  relay_->set_settings(state.config.relay);
  set_vip_routes(!state.config.sources.empty());
}

void Agent::reload(Reply<api::ReloadView> reply) {
  notifier_.reloading();
  config_->reload(ConfigKeeper::Cause::kRequest, [this, reply = std::move(reply)]() mutable {
    notifier_.ready("serving");
    const ConfigKeeper::State& state = config_->state();
    api::ReloadView view;
    view.ok = state.last_ok;
    view.errors = to_views(state.findings);
    view.needs_restart = state.needs_restart;
    const auto& files = state.config.files;  // those with a service are of services whose endpoints stand there
    view.services =
        state.config.services.size() + static_cast<std::uint64_t>(std::ranges::count_if(
                                           files, [](const auto& file) { return file.service != nullptr; }));
    for (const auto& service : state.config.services) view.endpoints += service->endpoints.size();
    reply(std::move(view));
  });
}

void Agent::detach(Reply<api::DetachView> reply) {
  files_->stop();
  records_->stop();
  housekeeper_->stop();
  sources_->stop();
  prober_->stop();
  watcher_->stop();
  drainer_->stop();
  reconciler_->stop();
  relay_->stop();
  // Not destroyed: its operations are in flight on this loop, which still runs until the answer is sent.
  if (canary_) canary_->watch({});
  api::DetachView view;
  for (const auto& hook : datapath_->hooks()) {
    if (hook.attached) view.removed.push_back(hook.cgroup + " " + std::string(hook.hook));
  }
  view.removed.push_back(datapath_->directory());
  set_vip_routes(false);
  const auto detached = datapath_->detach();
  detached_ = detached.has_value();
  if (detached) {
    reply(std::move(view));
  } else {
    reply(std::unexpected(detached.error()));
  }
  stop();
}

}  // namespace mesh::app
