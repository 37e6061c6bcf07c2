// SPDX-License-Identifier: Apache-2.0
#include "app/relay_process.hpp"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "acme/fetcher.hpp"
#include "api/relay.hpp"
#include "app/outbound_sockets.hpp"
#include "app/relay_channel.hpp"
#include "app/relay_endpoints.hpp"
#include "app/relay_identities.hpp"
#include "app/relay_keys.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "base/sd_notify.hpp"
#include "model/service.hpp"
#include "relay/certificate_store.hpp"
#include "relay/challenge_server.hpp"
#include "relay/listen.hpp"
#include "relay/socket_owner.hpp"
#include "relay/worker.hpp"
#include "tls/ticket_keys.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"relay"};
constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kDrainTick = std::chrono::milliseconds(50);  ///< While the last connections are waited for.
constexpr auto kAgentWait = std::chrono::seconds(2);        ///< For orders, before those on disk are taken.
constexpr auto kSaveInterval = std::chrono::seconds(5);
constexpr auto kStopDrain = std::chrono::seconds(2);  ///< After SIGTERM: a successor may be waiting to be started.
constexpr rlim_t kReservedDescriptors = 128;          ///< For all that is no connection.
constexpr std::size_t kOrdersBytesMax = kRelayMessageMax;
constexpr std::string_view kTicketsName = "tickets";

using Look = relay::CertificateStore::Look;

std::string socket_name(const base::SocketAddress& address) { return "listen " + address.to_string(); }

std::uint32_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::clamp<std::uint32_t>(static_cast<std::uint32_t>(CPU_COUNT(&set)), 1, relay::kWorkersMax);
}

/// Descriptors as many as may be; how many connections fit.
std::uint32_t connection_places() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t free =
      limit.rlim_cur > 2 * kReservedDescriptors ? limit.rlim_cur - kReservedDescriptors : limit.rlim_cur / 2;
  return static_cast<std::uint32_t>(std::min<rlim_t>(free / 2, UINT32_MAX));
}

double seconds_until(base::WallTime time, base::WallTime now) {
  return std::chrono::duration<double>(time - now).count();
}

std::string mode_name(relay::Mode mode) {
  switch (mode) {
    case relay::Mode::kTerminate:
      return "terminate";
    case relay::Mode::kPassthrough:
      return "passthrough";
    case relay::Mode::kOriginate:
      return "originate";
    case relay::Mode::kMutual:
      return "mutual";
    case relay::Mode::kMesh:
      return "mesh";
  }
  return "";
}

/// Of a service; nothing if it is none that this relay knows.
std::optional<relay::Mode> outbound_mode(std::string_view name) {
  for (const relay::Mode mode : {relay::Mode::kOriginate, relay::Mode::kMutual}) {
    if (mode_name(mode) == name) return mode;
  }
  return std::nullopt;
}

api::RelayCertificateView certificate_view(const relay::CertificateState& state, base::WallTime now) {
  api::RelayCertificateView view{.file = state.files.certificate,
                                 .error = state.refused ? state.refused->to_string() : ""};
  if (!state.in_use) return view;
  const tls::CertificateFacts& facts = state.in_use->facts();
  view.subject = facts.subject;
  view.issuer = facts.issuer;
  view.names = facts.dns_names;
  view.names.insert(view.names.end(), facts.addresses.begin(), facts.addresses.end());
  view.names.insert(view.names.end(), facts.uris.begin(), facts.uris.end());
  view.key = facts.key;
  view.serial = facts.serial;
  view.fingerprint = facts.fingerprint;
  view.begins_at = base::format_rfc3339(facts.not_before);
  view.expires_at = base::format_rfc3339(facts.chain_ends);
  view.expires_in_s = seconds_until(facts.chain_ends, now);
  return view;
}

model::ServiceRoutePtr route_of(const api::RelayService& described) {
  auto service = std::make_shared<model::Service>();
  service->name = described.name;
  service->algorithm = model::algorithm_from(described.algorithm).value_or(model::Algorithm::kWeightedRandom);
  service->maglev_size = described.maglev_size;
  if (const auto frontend = base::SocketAddress::parse(described.frontend)) service->frontend.address = *frontend;
  service->drain.max_age = std::chrono::seconds(described.max_age_s);
  auto route = std::make_shared<model::ServiceRoute>();
  for (const api::RelayEndpoint& endpoint : described.endpoints) {
    const auto address = base::SocketAddress::parse(endpoint.address);
    if (!address || endpoint.weight == 0) continue;
    route->routes.push_back({static_cast<std::uint32_t>(service->endpoints.size()), endpoint.weight});
    service->endpoints.push_back({.address = *address, .weight = endpoint.weight});
  }
  route->service = std::move(service);
  return route;
}

std::vector<api::RelayCount> counts_of(const std::map<std::string, std::uint64_t>& sums) {
  std::vector<api::RelayCount> counts;
  for (const auto& [name, count] : sums) counts.push_back({name, count});
  return counts;
}

/// Among the names of listeners and of the services that they name.
std::string target_name(const api::RelayOutbound& outbound) { return "outbound " + outbound.frontend; }

relay::TlsSettings tls_settings(const api::RelayTls& tls) {
  relay::TlsSettings settings{.min_version = tls.min_version, .alpn = tls.alpn, .client = {.ca = tls.ca}};
  if (!tls.certificate.empty()) settings.certificates.push_back({.certificate = tls.certificate, .key = tls.key});
  return settings;
}

class Relay {
 public:
  Relay(RelayOptions options, std::unique_ptr<io::Loop> loop, base::ServiceNotifier notifier)
      : options_(std::move(options)), loop_(std::move(loop)), notifier_(std::move(notifier)) {}

  base::Result<void> run(Signals& signals) {
    places_.all = connection_places();
    signals.watch(*loop_, [this](int signal) { on_signal(signal); });
    started_at_ = loop_->now();
    notifier_.ready("waiting for orders");
    on_tick(loop_->now());
    loop_->run();
    for (auto& worker : workers_) worker->stop();
    if (!failure_) kLog.info("relay stopped");
    if (failure_) return std::unexpected(*failure_);
    return {};
  }

 private:
  /// A listener and all that belongs to it whatever the newest orders are.
  struct Listening {
    relay::ListenerSettings settings;
    std::shared_ptr<base::Fd> fd;
    std::shared_ptr<relay::Gate> gate = std::make_shared<relay::Gate>();
    std::vector<std::shared_ptr<relay::ListenerStats>> stats;  ///< By worker, as the next.
    std::vector<std::shared_ptr<const tls::ServerContext>> contexts;
    std::optional<relay::CertificateStore> files;       ///< Unless TLS goes through.
    std::shared_ptr<const tls::Challenges> challenges;  ///< That the contexts answer.
    std::optional<base::Error> refused;                 ///< Why the newest certificates are not in use.
    std::optional<base::Error> failed;                  ///< Why it does not listen.
    // Of a service that TLS is begun for: its settings' address is where the kernel sends connections.
    std::optional<api::RelayOutbound> outbound;
    std::map<std::string, std::shared_ptr<base::Fd>> sockets;        ///< As its orders name them.
    std::vector<std::shared_ptr<const tls::ClientContext>> clients;  ///< By worker.
    std::string error;                                               ///< Of both, as it was said last.
  };

  void on_signal(int signal) {
    if (signal == SIGHUP) return apply(Look::kAtOnce);
    notifier_.stopping();
    retire(kStopDrain);
  }

  void on_tick(base::TimePoint now) {
    loop_->arm(tick_, now + (retired_ ? kDrainTick : kTick));
    if (!channel_.open() && !retired_) connect();
    if (!orders_ && now - started_at_ >= kAgentWait) load_orders();
    const auto failed = [](const auto& one) { return one.second.failed.has_value(); };
    fetch_certificates();
    bool changed = std::ranges::any_of(listening_, failed);  // perhaps the address is free now
    for (auto& [name, one] : listening_) changed = (!retired_ && read_tls(one, Look::kSettled)) || changed;
    changed = (!retired_ && identities_.look(Look::kSettled, libraries_)) || changed;
    if (changed) apply(Look::kSettled);
    rotate_tickets();
    if (!retired_) end_aged(loads_, workers_);
    if (orders_unsaved_ && now >= save_at_) save_orders(now);
    report();
    if (retired_ && (now >= *retire_at_ || (active() == 0 && !accepting()))) loop_->stop();
  }

  void connect() {
    auto channel = connect_to_agent(options_.socket);
    if (!channel) {
      if (!std::exchange(agent_away_said_, true)) kLog.warn("agent away", {{"err", channel.error()}});
      return;
    }
    agent_away_said_ = false;
    if (!send_sockets(*channel)) return;
    api::RelayHello hello{.version = std::string(kVersion), .pid = ::getpid()};
    std::vector<int> descriptors;
    for (const auto& [name, fd] : held_) {
      hello.descriptors.push_back(name);
      descriptors.push_back(fd->get());
    }
    if (!channel->send(api::encode(hello), descriptors)) return;
    channel_ = std::move(*channel);
    unreported_.clear();
    loop_->poll(channel_.fd(), POLLIN, readable_);
  }

  /// An agent that was restarted has none.
  base::Result<void> send_sockets(RelayChannel& channel) const {
    api::RelaySockets message;
    std::vector<int> descriptors;
    for (auto one = sockets_.begin(); one != sockets_.end();) {
      message.descriptors.push_back(one->first);
      descriptors.push_back(one->second->get());
      if (++one != sockets_.end() && descriptors.size() < kRelayDescriptorsMax) continue;
      MESH_CHECK(channel.send(api::encode(message), descriptors));
      message.descriptors.clear();
      descriptors.clear();
    }
    return {};
  }

  void on_readable(std::int32_t result) {
    if (result < 0 || !channel_.open()) return;
    auto message = channel_.receive();
    if (!message) {
      kLog.warn("agent gone; going on with its last orders", {{"err", message.error()}});
      channel_.close();
      return;
    }
    loop_->poll(channel_.fd(), POLLIN, readable_);
    if (message->kind() == api::RelayRetire::kKind) {
      kLog.info("a successor serves; this relay retires", {{"connections", active()}});
      notifier_.stopping();
      return retire(settings_.drain_timeout);
    }
    if (message->kind() == api::RelayLeave::kKind) {
      if (const auto leave = api::from_document<api::RelayLeave>(message->body))
        leave_endpoints(*leave, loads_, workers_);
      return;
    }
    if (message->kind() == api::RelaySockets::kKind && !retired_) {
      const auto brought = api::from_document<api::RelaySockets>(message->body);
      if (!brought) return kLog.error("sockets not understood", {{"err", brought.error()}});
      for (std::size_t i = 0; i < std::min(brought->descriptors.size(), message->descriptors.size()); ++i) {
        sockets_.try_emplace(brought->descriptors[i], std::make_shared<base::Fd>(std::move(message->descriptors[i])));
      }
      return;
    }
    if (message->kind() != api::RelayOrders::kKind || retired_) return;
    auto orders = api::from_document<api::RelayOrders>(message->body);
    if (!orders) return kLog.error("orders not understood", {{"err", orders.error()}});
    adopt(orders->descriptors, message->descriptors);
    if (take_orders(std::move(*orders))) {
      forget_sockets();
      orders_unsaved_ = true;
    }
    if (orders_unsaved_ && loop_->now() >= save_at_) save_orders(loop_->now());
  }

  /// What an earlier relay had, from the agent that kept it.
  void adopt(const std::vector<std::string>& names, std::vector<base::Fd>& descriptors) {
    for (std::size_t i = 0; i < std::min(names.size(), descriptors.size()); ++i) {
      if (!held_.contains(names[i])) held_[names[i]] = std::make_shared<base::Fd>(std::move(descriptors[i]));
    }
  }

  bool take_orders(api::RelayOrders orders) {
    auto settings = parse_relay_settings(orders.settings);
    if (!settings) {
      kLog.error("orders not understood", {{"err", settings.error()}});
      return false;
    }
    settings_ = std::move(*settings);
    orders_ = std::move(orders);
    std::map<std::string, relay::TargetPtr> targets;
    const auto add = [&](const std::string& name, const api::RelayService& service) {
      const auto before = targets_.find(name);
      if (!service.error.empty()) return;
      targets[name] = std::make_shared<const relay::Target>(route_of(service), loads_,
                                                            before == targets_.end() ? nullptr : before->second.get());
    };
    for (const api::RelayService& service : orders_->services) add(service.name, service);
    for (const api::RelayOutbound& one : orders_->outbound) add(target_name(one), one.service);
    targets_ = std::move(targets);
    apply(Look::kSettled);
    return true;
  }

  /// Those of the agent that its orders don't name. Not before there are newer ones: sockets come ahead of the orders
  /// that name them.
  void forget_sockets() {
    std::set<std::string> used;
    for (const auto& [name, one] : listening_) {
      for (const auto& [socket, fd] : one.sockets) {
        used.insert(socket);
        used.insert(owner_socket_name(OutboundSocket::parse(socket).value_or(OutboundSocket{}).place));
      }
    }
    std::erase_if(sockets_, [&](const auto& held) { return !used.contains(held.first); });
    std::erase_if(owners_, [&](const auto& one) { return !used.contains(owner_socket_name(one.first)); });
  }

  void load_orders() {
    const auto text = base::read_file(orders_path(), kOrdersBytesMax);
    if (!text) return;
    auto orders = api::decode<api::RelayOrders>(*text);
    if (!orders) return kLog.error("the last orders on disk are of no use", {{"err", orders.error()}});
    kLog.warn("no agent; starting with the last orders on disk", {{"path", orders_path()}});
    take_orders(std::move(*orders));
  }

  void save_orders(base::TimePoint now) {
    save_at_ = now + kSaveInterval;
    orders_unsaved_ = false;
    api::RelayOrders orders = *orders_;
    orders.descriptors.clear();
    for (api::RelayOutbound& one : orders.outbound) one.sockets.clear();
    const std::string text = api::encode(orders);
    if (text == saved_) return;
    std::error_code ignored;
    std::filesystem::create_directories(options_.state_dir, ignored);
    if (const auto written = base::write_file_atomically(orders_path(), text, 0600); !written) {
      return kLog.warn("orders not saved", {{"err", written.error()}});
    }
    saved_ = text;
  }

  [[nodiscard]] std::string orders_path() const { return options_.state_dir + "/orders.json"; }

  /// Makes what is ordered so.
  void apply(Look look) {
    if (!orders_ || retired_) return;
    if (workers_.empty() && !make_workers()) return;
    take_tickets();
    identities_.set(settings_);
    identities_.look(look, libraries_);
    const bool fetches = fetches_certificates();
    if (fetches && !acme_) acme_ = std::make_unique<acme::CertificateFetcher>(seed());
    const bool by_tls = fetches && settings_.acme.challenge == acme::Challenge::kTlsAlpn01;
    challenges_ = by_tls ? acme_->board().certificates : nullptr;
    std::map<std::string, Listening> listening;
    std::vector<relay::ListenerSettings> wanted = settings_.listeners;
    if (settings_.mesh.address.port != 0) wanted.push_back(mesh_listener(settings_.mesh));
    policies_ = mesh_policies();
    for (const relay::ListenerSettings& settings : wanted) {
      const auto before = listening_.find(settings.name);
      Listening& one = listening[settings.name];
      if (before != listening_.end()) one = std::move(before->second);
      one.settings = settings;
      one.gate->set_limits(settings.limits);
      while (one.stats.size() < workers_.size()) one.stats.push_back(std::make_shared<relay::ListenerStats>());
      read_tls(one, look);
      open_socket(one);
      complain(one);
    }
    for (const api::RelayOutbound& ordered : orders_->outbound) {
      const auto address = base::SocketAddress::parse(ordered.frontend);
      if (!address) continue;
      Listening& one = listening[target_name(ordered)];
      if (const auto before = listening_.find(target_name(ordered)); before != listening_.end()) {
        one = std::move(before->second);
      }
      one.settings = {.name = ordered.name,
                      .address = *address,
                      .mode = outbound_mode(ordered.tls.mode).value_or(relay::Mode::kOriginate),
                      .tls = tls_settings(ordered.tls),
                      .limits = settings_.originate};
      one.outbound = ordered;
      one.gate->set_limits(settings_.originate);
      while (one.stats.size() < workers_.size()) one.stats.push_back(std::make_shared<relay::ListenerStats>());
      read_tls(one, look);
      take_sockets(one);
      complain(one);
    }
    listening_ = std::move(listening);
    std::erase_if(held_, [this](const auto& held) {
      return held.first != kTicketsName &&
             std::ranges::none_of(listening_, [&](const auto& one) { return one.second.fd == held.second; });
    });
    for (std::size_t i = 0; i < workers_.size(); ++i) workers_[i]->set_listeners(listeners_of(i));
    fetch_certificates();
    if (!std::exchange(serving_, true)) notifier_.status("serving");
    report();
  }

  static std::uint64_t seed() { return static_cast<std::uint64_t>(base::steady_now().time_since_epoch().count()); }

  [[nodiscard]] bool fetches_certificates() const {
    return orders_ && !retired_ && !settings_.acme.directory.empty() && settings_.acme.issuer_node == orders_->node;
  }

  /// Once an issuer that looks finds the answer.
  void fetch_certificates() {
    if (!acme_) return;
    const acme::Settings& wanted = settings_.acme;
    const bool fetches = fetches_certificates();
    const bool by_http = fetches && wanted.challenge == acme::Challenge::kHttp01;
    if (http_ && (!by_http || http_->address() != wanted.listen)) http_.reset();
    std::string error;
    if (by_http && !http_) {
      auto started = relay::ChallengeServer::start(wanted.listen, acme_->board());
      if (started) {
        http_ = std::move(*started);
      } else {
        error = started.error().to_string();
      }
    }
    if (std::exchange(http_error_, error) != error && !error.empty())
      kLog.error("http-01 is not answered", {{"err", error}});
    acme_->set(fetches && error.empty() ? wanted : acme::Settings{});
  }

  bool make_workers() {
    const std::uint32_t count = settings_.workers != 0 ? settings_.workers : usable_cpus();
    for (std::uint32_t i = 0; i < count; ++i) {
      auto worker = relay::Worker::make(options_.loop, seed() + i, places_);
      if (!worker) {
        failure_ = worker.error();
        loop_->stop();
        return false;
      }
      workers_.push_back(std::move(*worker));
      libraries_.push_back(tls::Library::make());
    }
    for (auto& worker : workers_) worker->start();
    kLog.info("relay started", {{"version", kVersion}, {"workers", count}, {"loop", workers_.front()->loop_reason()}});
    return true;
  }

  /// Keys for tickets: those of the relay before, or new ones.
  void take_tickets() {
    if (tickets_) return;
    tls::TicketKeys keys;
    if (const auto kept = held_.find(std::string(kTicketsName)); kept != held_.end()) {
      std::string bytes(4096, '\0');
      const ssize_t size = ::pread(kept->second->get(), bytes.data(), bytes.size(), 0);
      if (size > 0) {
        bytes.resize(static_cast<std::size_t>(size));
        if (auto decoded = tls::decode_ticket_keys(bytes)) keys = *decoded;
      }
    }
    if (rotate(keys, base::wall_now()) || !held_.contains(std::string(kTicketsName))) hand_on(keys);
    tickets_ = std::make_shared<const tls::TicketKeys>(std::move(keys));
  }

  void rotate_tickets() {
    if (!tickets_ || retired_) return;
    tls::TicketKeys keys = *tickets_;
    if (!rotate(keys, base::wall_now())) return;
    hand_on(keys);
    tickets_ = std::make_shared<const tls::TicketKeys>(std::move(keys));
    for (auto& [name, one] : listening_) {
      for (std::size_t i = 0; i < one.contexts.size(); ++i) {
        workers_[i]->post([context = one.contexts[i], tickets = tickets_] { context->set_tickets(tickets); });
      }
    }
  }

  /// In memory that only the next relay reads: the agent keeps the descriptor, unread.
  void hand_on(const tls::TicketKeys& keys) {
    auto memory = std::make_shared<base::Fd>(::memfd_create("meshd-relay-tickets", MFD_CLOEXEC));
    const std::string bytes = encode(keys);
    if (!memory->valid() || ::pwrite(memory->get(), bytes.data(), bytes.size(), 0) < 0) return;
    held_[std::string(kTicketsName)] = std::move(memory);
    unreported_.emplace_back(kTicketsName);
  }

  /// New certificates, or what was wrong with them; those before stay in use then. True if something is different.
  bool read_tls(Listening& one, Look look) {
    const bool unknown = one.outbound && !outbound_mode(one.outbound->tls.mode);
    if (unknown || one.settings.mode == relay::Mode::kPassthrough || one.settings.mode == relay::Mode::kMutual) {
      one.files.reset();
      one.refused.reset();
      one.contexts.clear();
      one.clients.clear();  // without any, connections that come are refused
      if (unknown) {
        one.refused = base::Error{base::ErrorKind::kInvalid,
                                  "speak TLS in the mode '" + one.outbound->tls.mode + "': this relay does not know it",
                                  "start a relay of the agent's version", 0};
      }
      return false;
    }
    if (!one.files) {
      one.files.emplace(one.settings.tls);
    } else if (one.files->settings() != one.settings.tls) {
      one.files->change(one.settings.tls);
      one.clients.clear();  // whom the settings don't trust any more is not trusted for want of somebody better
    }
    const auto challenges = one.settings.mode == relay::Mode::kTerminate ? challenges_ : nullptr;
    const bool others = std::exchange(one.challenges, challenges) != challenges;
    if (!one.files->look(look) && !others) return false;
    if (one.outbound) {
      auto options = one.files->client_options();
      const auto made = options ? make_clients(one, std::move(*options)) : std::unexpected(options.error());
      one.refused = made ? one.files->refused() : std::optional(made.error());
      return true;
    }
    auto options = one.files->options(challenges);
    const auto made = options ? make_contexts(one, std::move(*options)) : std::unexpected(options.error());
    one.refused = made ? one.files->refused() : std::optional(made.error());
    return true;
  }

  /// Those that the agent opened for it.
  void take_sockets(Listening& one) {
    one.sockets.clear();
    for (const std::string& name : one.outbound->sockets) {
      if (const auto held = sockets_.find(name); held != sockets_.end()) one.sockets.insert(*held);
    }
    one.fd = one.sockets.empty() ? nullptr : one.sockets.begin()->second;
  }

  /// Who connects shall not find a listener without any certificate.
  void open_socket(Listening& one) {
    one.failed.reset();
    if (one.settings.mode != relay::Mode::kPassthrough && one.contexts.empty()) return one.fd.reset();
    const std::string name = socket_name(one.settings.address);
    if (const auto held = held_.find(name); held != held_.end()) {
      one.fd = held->second;
      return;
    }
    one.fd.reset();
    auto opened = relay::listen_on(one.settings.address);
    if (!opened) {
      one.failed = std::move(opened).error();
      return;
    }
    one.fd = held_[name] = std::make_shared<base::Fd>(std::move(*opened));
    unreported_.push_back(name);
    kLog.info("listening", {{"listener", one.settings.name}, {"address", one.settings.address.to_string()}});
  }

  static void complain(Listening& one) {
    const std::string error = one.refused ? one.refused->to_string() : one.failed ? one.failed->to_string() : "";
    if (std::exchange(one.error, error) == error || error.empty()) return;
    kLog.error("listener not as ordered", {{"listener", one.settings.name}, {"err", error}});
  }

  base::Result<void> make_contexts(Listening& one, tls::ServerOptions options) {
    options.tickets = tickets_;
    options.scope = one.settings.name;
    std::vector<std::shared_ptr<const tls::ServerContext>> contexts;
    for (const auto& library : libraries_) {
      contexts.push_back(MESH_TRY(tls::ServerContext::make(options, library)));
    }
    one.contexts = std::move(contexts);
    return {};
  }

  base::Result<void> make_clients(Listening& one, tls::ClientContext::Options options) {
    std::vector<std::shared_ptr<const tls::ClientContext>> clients;
    for (const auto& library : libraries_) {
      options.library = library;
      clients.push_back(MESH_TRY(tls::ClientContext::make(options)));
    }
    one.clients = std::move(clients);
    return {};
  }

  void add_outbound(const Listening& one, std::size_t worker, std::vector<relay::ListenerPtr>& listeners) {
    relay::Listener listener;
    listener.settings = one.settings;
    listener.gate = one.gate;
    listener.stats = one.stats[worker];
    if (!one.clients.empty()) listener.backend_tls = one.clients[worker];
    listener.backend_name = one.outbound->tls.server_name;
    listener.fallback = target(target_name(*one.outbound));
    listener.said = said_;
    for (const auto& [name, socket] : one.sockets) {
      listener.fd = socket;
      if (one.settings.mode == relay::Mode::kMutual) listener.mesh_client = mesh_client(one, name, worker);
      listeners.push_back(std::make_shared<const relay::Listener>(listener));
    }
  }

  std::shared_ptr<const relay::MeshClient> mesh_client(const Listening& one, const std::string& socket,
                                                       std::size_t worker) {
    auto client = std::make_shared<relay::MeshClient>();
    client->identities = identities_.of_worker(worker);
    client->port = settings_.mesh.port;
    for (const std::string& text : one.outbound->tls.server_ids) {
      if (auto pattern = tls::SpiffePattern::parse(text)) client->servers.push_back(std::move(*pattern));
    }
    client->find_owner = [owners = owners_in(socket)](int accepted) -> base::Result<relay::Owner> {
      if (owners) return owners->find(accepted);
      return base::fail(base::ErrorKind::kUnavailable, "find who made a socket: the agent gave no way to ask",
                        "its log says why");
    };
    return client;
  }

  /// Of the network namespace that a socket is in; null: the agent gave none.
  std::shared_ptr<relay::SocketOwners> owners_in(const std::string& socket) {
    const std::uint64_t place = OutboundSocket::parse(socket).value_or(OutboundSocket{}).place;
    if (const auto known = owners_.find(place); known != owners_.end()) return known->second;
    const auto held = sockets_.find(owner_socket_name(place));
    if (held == sockets_.end()) return nullptr;
    if (!cgroups_) cgroups_ = std::make_shared<relay::CgroupNames>(orders_->cgroups);
    return owners_[place] = std::make_shared<relay::SocketOwners>(held->second, cgroups_);
  }

  std::vector<relay::ListenerPtr> listeners_of(std::size_t worker) {
    std::vector<relay::ListenerPtr> listeners;
    for (const auto& [name, one] : listening_) {
      if (!one.fd) continue;
      if (one.outbound) {
        add_outbound(one, worker, listeners);
        continue;
      }
      auto listener = std::make_shared<relay::Listener>();
      listener->settings = one.settings;
      listener->fd = one.fd;
      listener->gate = one.gate;
      listener->stats = one.stats[worker];
      if (!one.contexts.empty()) listener->tls = one.contexts[worker];
      for (const relay::NameRoute& route : one.settings.routes) {
        if (listener->names.add(route.sni, listener->targets.size()))
          listener->targets.push_back(target(route.service));
      }
      listener->fallback = target(one.settings.service);
      listener->mesh = policies_;
      listener->said = said_;
      listeners.push_back(std::move(listener));
    }
    return listeners;
  }

  [[nodiscard]] relay::TargetPtr target(const std::string& service) const {
    const auto found = targets_.find(service);
    return found == targets_.end() ? nullptr : found->second;
  }

  /// Whose connections are taken from other nodes, as ordered.
  [[nodiscard]] std::shared_ptr<const relay::MeshPolicies> mesh_policies() const {
    auto policies = std::make_shared<relay::MeshPolicies>();
    for (const relay::MeshService& one : settings_.mesh.services) {
      const auto known = std::ranges::find(orders_->services, one.service, &api::RelayService::name);
      if (known == orders_->services.end() || !known->error.empty()) continue;
      relay::MeshPolicy& policy = (*policies)[known->full_name];
      policy.dry_run = one.dry_run;
      for (const std::string& text : one.allow) {
        if (auto pattern = tls::SpiffePattern::parse(text)) policy.allow.push_back(std::move(*pattern));
      }
      for (const std::string& text : known->members) {
        if (const auto address = base::SocketAddress::parse(text)) policy.endpoints.insert(*address);
      }
    }
    return policies;
  }

  void report() {
    if (!channel_.open()) return;
    api::RelayReport report{.serving = serving_ && !retired_, .workers = static_cast<std::uint32_t>(workers_.size())};
    if (!workers_.empty()) report.loop = workers_.front()->loop_name();
    for (const auto& [name, one] : listening_) report.listeners.push_back(view_of(one));
    const base::WallTime now = base::wall_now();
    for (const RelayIdentities::One& one : identities_.all()) {
      api::RelayIdentityView& view = report.identities.emplace_back(
          api::RelayIdentityView{.id = one.rule.id.to_string(), .error = one.refused ? one.refused->to_string() : ""});
      for (const auto& state : one.files.certificates()) view.certificates.push_back(certificate_view(state, now));
    }
    report.acme = acme_view();
    report.endpoints = endpoint_views(loads_);
    std::vector<int> descriptors;
    for (const std::string& name : unreported_) {
      const auto held = held_.find(name);
      if (held == held_.end()) continue;
      report.descriptors.push_back(name);
      descriptors.push_back(held->second->get());
    }
    for (const auto& [name, fd] : held_) report.kept.push_back(name);
    if (const auto sent = channel_.send(api::encode(report), descriptors); !sent) {
      kLog.warn("agent gone; going on with its last orders", {{"err", sent.error()}});
      loop_->cancel(readable_);
      channel_.close();
      return;
    }
    unreported_.clear();
  }

  [[nodiscard]] api::AcmeView acme_view() const {
    api::AcmeView view{.wanted = !settings_.acme.directory.empty(),
                       .fetches = fetches_certificates(),
                       .issuer_node = settings_.acme.issuer_node};
    if (!view.fetches || !acme_) return view;
    view.error = http_error_.empty() ? acme_->error() : http_error_;
    const base::WallTime now = base::wall_now();
    for (const acme::Standing& one : acme_->standing()) {
      api::AcmeCertificateView& shown =
          view.certificates.emplace_back(api::AcmeCertificateView{.name = one.name,
                                                                  .names = one.names,
                                                                  .issuer = one.issuer,
                                                                  .issued = one.issued,
                                                                  .failures = one.failures,
                                                                  .error = one.error});
      if (one.expires) shown.expires_in_s = seconds_until(*one.expires, now);
      if (!one.next) continue;
      shown.next_in_s = std::max(0.0, seconds_until(*one.next, now));
      shown.next_at = base::format_rfc3339(*one.next);
    }
    return view;
  }

  static api::RelayListenerView view_of(const Listening& one) {
    api::RelayListenerView view{.name = one.settings.name,
                                .address = one.settings.address.to_string(),
                                .mode = mode_name(one.settings.mode),
                                .state = one.fd ? "listening" : "failed",
                                .error = one.error,
                                .active = one.gate->active()};
    std::map<std::string, std::uint64_t> handshakes, failed, ended, dry_run, identities;
    for (const auto& stats : one.stats) {
      view.accepted += stats->accepted;
      view.relayed += stats->relayed;
      view.bytes_received += stats->bytes_received;
      view.bytes_sent += stats->bytes_sent;
      view.retries += stats->retries;
      view.resumed += stats->resumed;
      stats->handshakes.add_to(handshakes);
      stats->failed.add_to(failed);
      stats->ended.add_to(ended);
      stats->dry_run.add_to(dry_run);
      stats->identities.add_to(identities);
    }
    view.handshakes = counts_of(handshakes);
    view.failed = counts_of(failed);
    view.ended = counts_of(ended);
    view.dry_run = counts_of(dry_run);
    view.identities = counts_of(identities);
    if (one.files) {
      const base::WallTime now = base::wall_now();
      for (const relay::CertificateState& state : one.files->certificates()) {
        view.certificates.push_back(certificate_view(state, now));
      }
      const auto& authorities = one.files->authorities();
      std::optional<base::WallTime> lists_end;
      if (authorities) lists_end = authorities->lists_end();
      if (one.files->trust()) {
        for (const auto& [domain, bundle] : one.files->trust()->bundles()) {
          if (bundle->lists_end()) lists_end = std::min(lists_end.value_or(*bundle->lists_end()), *bundle->lists_end());
        }
      }
      if (lists_end) view.lists_expire_in_s = seconds_until(*lists_end, now);
    }
    return view;
  }

  /// A worker may still get a connection.
  [[nodiscard]] bool accepting() const {
    return std::ranges::any_of(workers_, [](const auto& worker) { return worker->accepting(); });
  }

  /// Connections of all listeners, of those that are gone too.
  [[nodiscard]] std::uint32_t active() const { return places_.taken.load(std::memory_order_relaxed); }

  void retire(base::Duration drain) {
    const base::TimePoint until = loop_->now() + drain;
    if (std::exchange(retired_, true)) {
      retire_at_ = std::min(*retire_at_, until);
    } else {
      retire_at_ = until;
      http_.reset();
      acme_.reset();
      for (auto& worker : workers_) worker->set_listeners({});
      held_.clear();
      sockets_.clear();
      owners_.clear();
      for (auto& [name, one] : listening_) {
        one.fd.reset();
        one.sockets.clear();
      }
    }
    loop_->arm(tick_, loop_->now());
  }

  const RelayOptions options_;
  std::unique_ptr<io::Loop> loop_;
  base::ServiceNotifier notifier_;
  RelayChannel channel_;
  relay::Places places_;
  relay::EndpointLoads loads_;
  std::vector<std::shared_ptr<const tls::Library>> libraries_;  ///< Parallel to workers_.
  std::vector<std::unique_ptr<relay::Worker>> workers_;
  relay::Settings settings_;
  std::optional<api::RelayOrders> orders_;
  std::string saved_;  ///< Of the orders, on disk.
  bool orders_unsaved_ = false;
  base::TimePoint save_at_{};
  std::map<std::string, relay::TargetPtr> targets_;
  std::shared_ptr<const relay::MeshPolicies> policies_;
  std::shared_ptr<relay::SaidOnce> said_ = std::make_shared<relay::SaidOnce>();
  std::map<std::string, Listening> listening_;
  RelayIdentities identities_;
  std::shared_ptr<relay::CgroupNames> cgroups_;
  std::map<std::uint64_t, std::shared_ptr<relay::SocketOwners>> owners_;  ///< By network namespace.
  std::map<std::string, std::shared_ptr<base::Fd>> held_;     ///< What the agent keeps too, by its name there.
  std::map<std::string, std::shared_ptr<base::Fd>> sockets_;  ///< Of the agent, by its name: of services with TLS.
  std::vector<std::string> unreported_;                       ///< Of them: the agent does not have it yet.
  std::shared_ptr<const tls::TicketKeys> tickets_;
  std::unique_ptr<acme::CertificateFetcher> acme_;     ///< Once this node was to fetch certificates.
  std::unique_ptr<relay::ChallengeServer> http_;       ///< Of its challenges.
  std::string http_error_;                             ///< Why there is none.
  std::shared_ptr<const tls::Challenges> challenges_;  ///< That listeners answer.
  std::optional<base::Error> failure_;
  base::TimePoint started_at_{};
  std::optional<base::TimePoint> retire_at_;
  bool retired_ = false;
  bool serving_ = false;
  bool agent_away_said_ = false;
  io::MemberOperation<Relay, &Relay::on_readable> readable_{*this};
  io::MemberTimer<Relay, &Relay::on_tick> tick_{*this};
};

}  // namespace

base::Result<void> run_relay(const RelayOptions& options, Signals& signals) {
  ::prctl(PR_SET_DUMPABLE, 0);  // no core file with private keys
  auto notifier = MESH_TRY(base::ServiceNotifier::from_environment());
  auto loop = MESH_TRY(io::make_loop(io::LoopKind::kEpoll));
  Relay relay(options, std::move(loop.loop), std::move(notifier));
  return relay.run(signals);
}

}  // namespace mesh::app
