// SPDX-License-Identifier: Apache-2.0
#include "app/agent.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <filesystem>

#include "app/agent_admin.hpp"
#include "app/internal_source.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/counters.hpp"
#include "datapath/grace.hpp"
#include "datapath/listeners.hpp"
#include "datapath/owners.hpp"
#include "datapath/records.hpp"
#include "datapath/unreachable_route.hpp"
#include "observe/metrics.hpp"

namespace mesh::app {
namespace {

using datapath::Table;

constexpr std::string_view kCanaryOffers = "canary";  // what the reconciler knows them by
constexpr std::string_view kNamesOffers = "names";
/// An agent that takes over tables waits for each registry so long before it applies any. Then services that a registry
/// has not named yet go.
constexpr auto kFirstAnswerWait = std::chrono::seconds(5);
constexpr auto kTick = std::chrono::seconds(1);
constexpr int kAuditsPerCensus = 10;                       // every socket of the host is looked at
constexpr auto kCanaryPatience = std::chrono::seconds(5);  // READY does not wait longer for the first canary connects

io::LoopKind loop_kind(const std::string& setting) {
  if (setting == "io_uring") return io::LoopKind::kUring;
  if (setting == "epoll") return io::LoopKind::kEpoll;
  return io::LoopKind::kAutomatic;
}

/// Probes and admin connections need descriptors; systemd's default of 1024 is for programs without either.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

/// The backend ids that live sockets' records name: they are not used again before.
datapath::NamedBackends named_backends(const datapath::MapSet& maps) {
  return [&maps]() -> base::Result<std::unordered_set<std::uint32_t>> {
    std::unordered_set<std::uint32_t> named;
    const auto memory = MESH_TRY(datapath::OwnerMemory::map(maps, datapath::Access::kRead));
    memory.for_each([&](const mesh_owner& owner) { named.insert(owner.backend_id); });
    return named;
  };
}

std::string host_name() {
  char host[HOST_NAME_MAX + 1] = {};
  return ::gethostname(host, sizeof(host) - 1) == 0 ? host : "";
}

/// The one attached cgroup ("/system.slice/shop.service" is "shop"), or else this host: the books don't tell who of
/// several connected.
observe::IstioSource istio_source(const std::vector<std::string>& cgroups) {
  if (cgroups.size() == 1) {
    std::string name = cgroups.front().substr(cgroups.front().rfind('/') + 1);
    name.resize(std::min(name.size(), name.rfind(".service")));
    if (!name.empty()) return {name, "unknown"};
  }
  return {host_name(), "unknown"};
}

std::uint64_t node_seed() {
  const auto machine = base::read_file("/etc/machine-id", 4096).value_or("");
  return base::hash64({reinterpret_cast<const std::uint8_t*>(machine.data()), machine.size()});
}

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

base::Result<void> Agent::make_relay() {
  relay_ = std::make_unique<RelayKeeper>(
      RelayKeeper::Options{.socket = start_.config.agent.run_dir + "/relay.sock",
                           .cgroup_root = datapath_->cgroup_root(),
                           .node = start_.config.agent.node.empty() ? host_name() : start_.config.agent.node,
                           .exempt = [this](std::span<const pid_t> relays) { return exempt_relay(relays); },
                           .mark = [this](int fd) { return datapath::mark_listener(datapath_->maps(), fd); },
                           .find_places =
                               [this] {
                                 return base::find_net_namespaces(cgroup_folders(), own_cgroup_.folder,
                                                                  kOutboundNamespacesMax, base::OwnNamespace::kAlways);
                               }});
  // The last good state knows of no listeners: a relay that runs goes on as it is.
  if (!start_.refused) relay_->set_settings(start_.config.relay);
  return relay_->start();
}

std::vector<std::string> Agent::cgroup_folders() const {
  std::vector<std::string> folders;
  for (const std::string& path : datapath_->cgroups()) folders.push_back(datapath_->cgroup_root() + path);
  return folders;
}

/// The ports that an earlier agent gave to services with TLS.
RelayPorts Agent::relay_ports_from_kernel() const {
  RelayPorts ports(start_.config.agent.relay_port);
  const auto& store = datapath_->store();
  const datapath::BackendIndex index(store);
  const auto read = store.for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t service_id) {
    for (const auto& [id, backend] : index.of(service_id)) {
      if ((backend.flags & MESH_BACKEND_RELAY) == 0) continue;
      ports.restore(datapath::frontend_of(key), datapath::address_of(backend).port);
    }
  });
  if (!read) base::log::warn("ports of the relay not restored", {{"err", read.error()}});
  return ports;
}

/// Only where the hooks see it: elsewhere it may share a cgroup with anybody.
base::Result<void> Agent::exempt_relay(std::span<const pid_t> relays) {
  const std::string path = MESH_TRY(datapath::cgroup_of(relays.front()));
  const bool seen =
      std::ranges::any_of(datapath_->cgroups(), [&](const auto& cgroup) { return datapath::is_within(path, cgroup); });
  base::Result<std::uint64_t> id = 0;
  if (seen) id = datapath::cgroup_shared_with_nobody(datapath_->cgroup_root(), relays);
  datapath_->exempt_relay(id.value_or(0));
  if (!id) return std::unexpected(id.error());
  return {};
}

base::Result<void> Agent::make_names() {
  const AgentSettings& settings = start_.config.agent;
  if (!settings.names.enabled) return {};
  NamesKeeper::Options options{
      .settings = settings.names,
      .cgroup_folders = {},
      .own_folder = own_cgroup_.folder,
      .hidden = {std::string(kInternalSource)},
      .mark = [this](int fd) { return datapath::mark_listener(datapath_->maps(), fd); },
      .publish =
          [this](discovery::UpdatePtr update) { reconciler_->offer(std::string(kNamesOffers), std::move(update)); }};
  options.cgroup_folders = cgroup_folders();
  names_ = std::make_unique<NamesKeeper>(std::move(options));
  return names_->start();
}

base::Result<void> Agent::make_xds() {
  const AgentSettings& settings = start_.config.agent;
  if (settings.xds.listen.empty()) return {};
  xds_ = std::make_unique<XdsKeeper>(XdsKeeper::Options{
      .listen = settings.xds.listen, .here = {settings.zone, settings.node}, .domain = settings.names.domain});
  return xds_->start();
}

base::Result<std::unique_ptr<Agent>> Agent::make(StartConfig start, Signals signals) {
  std::unique_ptr<Agent> agent(new Agent(std::move(start), std::move(signals)));
  raise_descriptor_limit();
  agent->loop_ = MESH_TRY(io::make_loop(loop_kind(agent->start_.config.agent.loop)));
  agent->notifier_ = MESH_TRY(base::ServiceNotifier::from_environment());
  MESH_CHECK(agent->make_kernel_side());
  MESH_CHECK(agent->make_sources());
  MESH_CHECK(agent->make_workers());
  MESH_CHECK(agent->make_names());
  MESH_CHECK(agent->make_relay());
  MESH_CHECK(agent->make_xds());
  MESH_CHECK(agent->make_admin());
  return agent;
}

base::Result<void> Agent::make_kernel_side() {
  const AgentSettings& settings = start_.config.agent;
  std::string cgroup_root = settings.cgroup_root;
  if (cgroup_root.empty()) cgroup_root = MESH_TRY(datapath::find_cgroup2_mount());
  own_cgroup_ = MESH_TRY(datapath::join_own_cgroup(cgroup_root, settings.exempt_cgroup));
  datapath_ = MESH_TRY(datapath::Datapath::open({.directory = settings.bpffs,
                                                 .cgroup_root = cgroup_root,
                                                 .cgroups = settings.cgroups,
                                                 .sizes = settings.limits,
                                                 .exempt_cgroup_id = own_cgroup_.id,
                                                 .version = std::string(kVersion)}));
  for (const auto& refusal : datapath_->features().refused) {
    base::log::warn("the kernel refuses programs", {{"feature", refusal.feature}, {"why", refusal.why}});
  }
  auto grace = MESH_TRY(datapath::make_grace());
  writer_ = MESH_TRY(datapath::Writer::open(datapath_->store(), std::move(grace), named_backends(datapath_->maps())));
  base::log::info("datapath ready", {{"bpffs", datapath_->directory()},
                                     {"start", datapath::to_string(datapath_->start_kind())},
                                     {"cgroup", own_cgroup_.path},
                                     {"loop", loop_.reason}});
  return {};
}

base::Result<void> Agent::make_sources() {
  const AgentSettings& settings = start_.config.agent;
  if (settings.canary.enabled) {
    CanaryRunner::Options canary;
    canary.cgroup_root = datapath_->cgroup_root();
    canary.interval = settings.canary.interval;
    canary.vip4 = MESH_TRY(base::IpAddress::parse(settings.canary.address4));
    canary.vip6 = MESH_TRY(base::IpAddress::parse(settings.canary.address6));
    canary.paused = [this] {
      return !describe_pause(datapath_->maps().control().pass_until_ns, base::wall_now()).empty();
    };
    canary_ = MESH_TRY(CanaryRunner::open(*loop_.loop, std::move(canary), [this](const datapath::CanaryReport& report) {
      if (!report.ok()) ++canary_failures_;
      tell_ready();
    }));
  }
  config_ = std::make_unique<ConfigKeeper>(*loop_.loop, start_,
                                           [this](const ConfigKeeper::Reloaded& reloaded) { on_reload(reloaded); });
  MESH_CHECK(config_->watch());
  discovery::SourceInput input = start_.config.source_input();
  input.stale = start_.refused;
  discovery::Restored of_files{{}, start_.restored.saved_at};
  discovery::Restored of_registries{{}, start_.restored.saved_at};
  for (auto& service : start_.restored.services) {
    (service->source == kFileSource ? of_files : of_registries).services.push_back(std::move(service));
  }
  start_.restored.services.clear();
  files_ = std::make_unique<discovery::FileSource>(std::move(input),
                                                   discovery::FileSource::Options{.restored = std::move(of_files)});
  vips_ = std::make_unique<discovery::VipPool>(
      discovery::VipPool::Options{.path = settings.state_dir + "/vips.state",
                                  .v4 = settings.vips4,
                                  .v6 = settings.vips6,
                                  .reserved = {MESH_TRY(base::IpAddress::parse(settings.canary.address4)),
                                               MESH_TRY(base::IpAddress::parse(settings.canary.address6))}});
  SourceKeeper::Options options;
  options.here = {settings.zone, settings.node};
  options.seed = node_seed();
  if (datapath_->start_kind() != datapath::StartKind::kFresh) options.first_answer_wait = kFirstAnswerWait;
  // Nobody takes the canary's address, and a service wins over a resolver's stand-in.
  options.before = {{std::string(kCanaryOffers)}, {std::string(kFileSource)}};
  if (settings.names.enabled) options.after = {{std::string(kNamesOffers)}};
  sources_ = std::make_unique<SourceKeeper>(std::move(options), *vips_, std::move(of_registries));
  state_ = std::make_unique<StateStore>(settings.state_dir);
  return {};
}

base::Result<void> Agent::make_workers() {
  const AgentSettings& settings = start_.config.agent;
  const model::HealthView health = health_from_kernel();
  reconciler_ =
      std::make_unique<Reconciler>(Reconciler::Options{.sources = sources_->precedence(start_.config.sources),
                                                       .audit_interval = settings.audit_interval,
                                                       .here = {settings.zone, settings.node},
                                                       .relay_ports = relay_ports_from_kernel()},
                                   *writer_, health, [this](ReconciledPtr reconciled) {
                                     if (!reconciled->error)
                                       datapath_->record_applied(reconciled->kernel_generation, reconciled->applied_at);
                                     prober_->set_services(reconciled->snapshot);
                                     if (names_) names_->set_services(reconciled->snapshot);
                                     if (reconciled->routing) {
                                       relay_->set_routing(reconciled->routing, reconciled->kernel);
                                     }
                                     if (xds_ && reconciled->routing) xds_->set_routing(reconciled->routing);
                                     drainer_->routes_changed();
                                     loop_.loop->post([this, reconciled] { on_reconciled(*reconciled); });
                                   });
  prober_ =
      std::make_unique<health::Prober>(health::Prober::Options{.loop = loop_kind(settings.loop),
                                                               .max_probes_per_second = settings.max_probes_per_second,
                                                               .node_seed = node_seed(),
                                                               .version = std::string(kVersion)});
  prober_->restore(health);
  events_ =
      MESH_TRY(datapath::EventRing::open(datapath_->maps(), [this](const mesh_event& event) { flows_.add(event); }));
  journal_ = std::make_unique<observe::Journal>(observe::Journal::Options{.folder = settings.state_dir + "/journal"});
  chronicle_ = std::make_unique<Chronicle>(*datapath_, *journal_);
  ejector_ = std::make_unique<Ejector>(*datapath_, *journal_);
  drainer_ =
      std::make_unique<Drainer>(Drainer::Options{.state_dir = settings.state_dir}, *datapath_, *reconciler_, *journal_);
  watcher_ = std::make_unique<Watcher>(Watcher::Options{}, *reconciler_, make_watcher_parts());
  books_ = std::make_unique<BookKeeper>(datapath_->maps(), *journal_, settings.audit_interval);
  records_ = std::make_unique<RecordKeeper>(
      RecordKeeper::Options{.interval = kAuditsPerCensus * settings.audit_interval}, *datapath_);
  housekeeper_ = std::make_unique<Housekeeper>(
      Housekeeper::Options{.own_cgroup = own_cgroup_.folder}, *datapath_, [this] { keep_house(); },
      [this](HousekeptPtr housekept) {
        loop_.loop->post([this, housekept = std::move(housekept)]() mutable { on_looked(std::move(housekept)); });
      });
  return {};
}

base::Result<void> Agent::make_admin() {
  const AgentSettings& settings = start_.config.agent;
  std::error_code ignored;
  std::filesystem::create_directories(settings.run_dir, ignored);
  admin_ = std::make_unique<AgentAdmin>(*this);
  jobs_ = std::make_unique<Jobs>(*loop_.loop);
  service_metrics_ = std::make_unique<ServiceMetricsReader>(*datapath_, settings.metrics_per_backend);
  MESH_CHECK(service_metrics_->begin());
  scrape_ = std::make_unique<Scrape>(
      *loop_.loop, [this] { return gather_metrics(); },
      [this](observe::MetricsInput& input) { return complete_metrics(input); });
  if (!settings.metrics_tls.certificate.empty()) {
    certificate_ = MESH_TRY(CertificateKeeper::open(settings.metrics_tls));
  }
  server_ = std::make_unique<AdminServer>(*loop_.loop, *admin_,
                                          AdminServerOptions{.socket = settings.socket,
                                                             .socket_group = settings.socket_group,
                                                             .metrics_listen = settings.metrics_listen,
                                                             .metrics_token_file = settings.metrics_token_file,
                                                             .metrics_certificate = certificate_.get()});
  return server_->start();
}

/// What the watcher does each round, in this order.
std::vector<Watcher::Part> Agent::make_watcher_parts() {
  const auto read_events = [this](const Watcher::Round&) {
    if (const auto drained = events_->drain(); !drained) {
      base::log::warn("samples of connections not read", {{"err", drained.error()}});
    }
  };
  return {{"events", read_events},
          {"journal", [this](const Watcher::Round& round) { chronicle_->look(round); }},
          {"ejection", [this](const Watcher::Round& round) { ejector_->look(round); }},
          {"drains", [this](const Watcher::Round& round) { drainer_->put_on_board(round.board); }},
          {"slow start", [this](const Watcher::Round& round) {
             for (const auto& [frontend, endpoint, percent] : slow_start_.look(round.now, round.reconciled->routing)) {
               round.board.set_start(frontend, endpoint, percent);
             }
           }}};
}

/// What the tables of an earlier agent say about endpoints: who was taken out is down until a probe says otherwise.
model::HealthView Agent::health_from_kernel() const {
  const auto& store = datapath_->store();
  const datapath::BackendIndex index(store);
  model::HealthView view;
  const auto read = store.for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t service_id) {
    auto health = std::make_shared<model::ServiceHealth>();
    health->frontend = datapath::frontend_of(key);
    bool any_down = false;
    for (const auto& [id, backend] : index.of(service_id)) {
      const bool usable = (backend.flags & MESH_BACKEND_USABLE) != 0;
      if (backend.weight == 0) continue;                          // not usable whatever a probe says
      if ((backend.flags & MESH_BACKEND_EJECTED) != 0) continue;  // the ejector's
      any_down = any_down || !usable;
      model::EndpointHealth& endpoint = health->endpoints.emplace_back();
      endpoint.address = datapath::address_of(backend);
      endpoint.verdict = usable ? model::Verdict::kUnknown : model::Verdict::kDown;
      if (!usable) endpoint.detail = "down before the agent started";
    }
    std::ranges::sort(health->endpoints, {}, &model::EndpointHealth::address);
    if (any_down) view.emplace(health->frontend, std::move(health));
  });
  if (!read) base::log::warn("health not restored from the kernel tables", {{"err", read.error()}});
  return view;
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
    view.services = state.config.services.size();
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

api::ProbesView Agent::probes_view() {
  api::ProbesView view;
  const auto reconciled = reconciler_->latest();
  if (reconciled->routing) {
    for (const auto& route : reconciled->routing->services) {
      view.services_in_panic += route->panic ? 1 : 0;
      if (!route->service->probe) continue;
      std::size_t known = 0;
      if (route->health) {
        for (const auto& endpoint : route->health->endpoints) {
          if (endpoint.verdict == model::Verdict::kUnknown) continue;
          ++known;
          ++(endpoint.verdict == model::Verdict::kUp ? view.up : view.down);
        }
      }
      view.unknown += route->service->endpoints.size() - std::min(known, route->service->endpoints.size());
    }
  }
  view.endpoints = probe_stats_.targets;
  view.per_second = probes_per_second_;
  view.budget_per_second = config_->state().config.agent.max_probes_per_second;
  view.delayed = probe_stats_.rate_limited;
  return view;
}

api::ConfigState Agent::config_state() const {
  const ConfigKeeper::State& state = config_->state();
  const auto when = [](base::WallTime time) {
    return time == base::WallTime{} ? std::string() : base::format_rfc3339(time);
  };
  return {state.path,
          state.last_ok,
          when(state.reloaded_at),
          when(state.loaded_at),
          state.from_state,
          to_views(state.findings),
          state.needs_restart};
}

/// What only the loop knows.
observe::MetricsInput Agent::gather_metrics() {
  observe::MetricsInput input;
  input.version = version_view();
  input.status = admin_->status();
  input.probes = probe_stats_;
  input.probes.longest_step = std::exchange(probes_longest_step_, {});
  input.probes.lateness_max = std::exchange(probes_lateness_max_, {});
  const ConfigKeeper::State& config = config_->state();
  input.reloads_ok = config.reloads - config.failures;
  input.reloads_failed = config.failures;
  input.canary_failures = canary_failures_;
  input.control_longest_step = std::exchange(scrape_longest_step_, {});
  input.watcher_longest_round = watcher_->take_longest();
  input.log_lines_dropped = base::log::dropped();
  const AdminCounters& admin = server_->counters();
  input.admin = {admin.connections, admin.refused_connections, admin.requests, admin.errors,
                 admin.denied,      admin.malformed,           admin.timeouts, admin.tls};
  const Drainer::Counts drains = drainer_->counts();
  if (names_) {
    const names::ResponderStats names = names_->stats();
    input.names = {names.answered,  names.negative, names.forwarded, names.failed,
                   names.timed_out, names.dropped,  names.places,    names.listeners};
  }
  if (xds_) {
    const xds::ServerStats xds = xds_->stats();
    input.xds = {xds.clients, xds.streams, xds.answers, xds.accepted, xds.refused, xds.dropped};
  }
  input.drains = {drains.reset, drains.failed, drains.unreachable, drains.leaving};
  input.max_series = config.running.metrics_max_series;
  if (config.running.metrics_istio) input.istio = istio_source(datapath_->cgroups());
  return input;
}

/// What grows with the number of services; on the scrape's thread.
base::Result<void> Agent::complete_metrics(observe::MetricsInput& input) {
  const auto reconciled = reconciler_->latest();
  input.apply_duration = reconciled->apply_durations;
  input.change_latency = reconciled->change_latencies;
  const auto reasons = MESH_TRY(datapath::read_reasons(datapath_->maps()));
  input.reasons.assign(reasons.begin(), reasons.end());
  input.process = observe::read_process_usage();
  return service_metrics_->read(*reconciled, ejector_->counts(), input);
}

}  // namespace mesh::app
