// SPDX-License-Identifier: Apache-2.0
// How the agent is put together: each part is made of those before it. What it does then is in agent.cpp.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

#include "app/agent.hpp"
#include "app/agent_admin.hpp"
#include "app/internal_source.hpp"
#include "app/version.hpp"
#include "base/host.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/grace.hpp"
#include "datapath/listeners.hpp"
#include "datapath/owners.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

/// An agent that takes over tables waits for each registry so long before it applies any. Then services that a registry
/// has not named yet go.
constexpr auto kFirstAnswerWait = std::chrono::seconds(5);
constexpr int kAuditsPerCensus = 10;  // every socket of the host is looked at

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

std::uint64_t node_seed() {
  const auto machine = base::read_file("/etc/machine-id", 4096).value_or("");
  return base::hash64({reinterpret_cast<const std::uint8_t*>(machine.data()), machine.size()});
}

}  // namespace

base::Result<std::unique_ptr<Agent>> Agent::make(StartConfig start, Signals signals) {
  std::unique_ptr<Agent> agent(new Agent(std::move(start), std::move(signals)));
  raise_descriptor_limit();
  agent->loop_ = MESH_TRY(io::make_loop(loop_kind(agent->start_.config.agent.loop)));
  agent->notifier_ = MESH_TRY(base::ServiceNotifier::from_environment());
  if (auto made = agent->make_parts(); !made) {
    agent->canary_.reset();  // its process is in our cgroup
    // The kernel is left as it was found; what an earlier agent left there goes on.
    if (agent->datapath_ && agent->datapath_->start_kind() == datapath::StartKind::kFresh) {
      if (const auto undone = agent->datapath_->detach(); !undone) {
        base::log::warn("what this start attached is still in the kernel", {{"err", undone.error()}});
      }
    }
    if (!agent->own_cgroup_.folder.empty()) datapath::leave_own_cgroup(agent->own_cgroup_);
    return std::unexpected(std::move(made).error());
  }
  return agent;
}

base::Result<void> Agent::make_parts() {
  MESH_CHECK(make_kernel_side());
  MESH_CHECK(make_sources());
  MESH_CHECK(make_workers());
  MESH_CHECK(make_names());
  MESH_CHECK(make_relay());
  MESH_CHECK(make_xds());
  return make_admin();
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
  drainer_ = std::make_unique<Drainer>(
      Drainer::Options{.state_dir = settings.state_dir},
      Drainer::Relay{.connections = [this] { return relay_->relayed(); },
                     .leave = [this](auto endpoints) { relay_->leave(std::move(endpoints)); }},
      *datapath_, *reconciler_, *journal_);
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

/// What the watcher does each round, in this order.
std::vector<Watcher::Part> Agent::make_watcher_parts() {
  const auto read_events = [this](const Watcher::Round&) {
    if (const auto drained = events_->drain(); !drained) {
      base::log::warn("samples of connections not read", {{"err", drained.error()}});
    }
  };
  return {{"events", read_events},
          {"journal", [this](const Watcher::Round& round) { chronicle_->look(round); }},
          {"ejection", [this](const Watcher::Round& round) { ejector_->look(round, relay_->take_news()); }},
          {"drains", [this](const Watcher::Round& round) { drainer_->put_on_board(round.board); }},
          {"slow start", [this](const Watcher::Round& round) {
             for (const auto& [frontend, endpoint, percent] : slow_start_.look(round.now, round.reconciled->routing)) {
               round.board.set_start(frontend, endpoint, percent);
             }
           }}};
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

base::Result<void> Agent::make_relay() {
  relay_ = std::make_unique<RelayKeeper>(
      RelayKeeper::Options{.socket = start_.config.agent.run_dir + "/relay.sock",
                           .cgroup_root = datapath_->cgroup_root(),
                           .node = start_.config.agent.node.empty() ? base::host_name() : start_.config.agent.node,
                           .exempt = [this](std::span<const pid_t> relays) { return exempt_relay(relays); },
                           .mark = [this](int fd) { return datapath::mark_listener(datapath_->maps(), fd); },
                           .find_places =
                               [this] {
                                 return base::find_net_namespaces(cgroup_folders(), own_cgroup_.folder,
                                                                  kOutboundNamespacesMax, base::OwnNamespace::kAlways);
                               },
                           .make_guard = [this] { return datapath_->make_guard(); }});
  // The last good state knows of no listeners: a relay that runs goes on as it is.
  if (!start_.refused) relay_->set_settings(start_.config.relay);
  return relay_->start();
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

std::vector<std::string> Agent::cgroup_folders() const {
  std::vector<std::string> folders;
  for (const std::string& path : datapath_->cgroups()) folders.push_back(datapath_->cgroup_root() + path);
  return folders;
}

base::Result<void> Agent::make_xds() {
  const AgentSettings& settings = start_.config.agent;
  if (settings.xds.listen.empty()) return {};
  xds_ = std::make_unique<XdsKeeper>(XdsKeeper::Options{
      .listen = settings.xds.listen, .here = {settings.zone, settings.node}, .domain = settings.names.domain});
  return xds_->start();
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

}  // namespace mesh::app
