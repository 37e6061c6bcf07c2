// SPDX-License-Identifier: Apache-2.0
#include "app/relay_keeper.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ranges>

#include "app/relay_keys.hpp"
#include "base/log.hpp"
#include "datapath/hooks.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"relay"};
constexpr std::size_t kPeersMax = 16;

/// "orders:443" is the service orders with that port.
bool is_meant(const model::Service& service, std::string_view text) {
  if (service.frontend.protocol != model::Protocol::kTcp) return false;
  if (service.name == text) return true;
  const std::string port = ":" + std::to_string(service.frontend.address.port);
  return text.ends_with(port) && text.substr(0, text.size() - port.size()) == service.name;
}

void describe_route(const model::ServiceRoute& route, api::RelayService& described) {
  described.algorithm = model::to_string(route.service->algorithm);
  described.maglev_size = route.service->maglev_size;
  described.frontend = route.service->frontend.address.to_string();
  // As the agent's own: not where a connection could go nowhere else.
  const bool ages = route.routes.size() > 1 && !route.panic;
  described.max_age_s = ages ? static_cast<std::uint32_t>(route.service->drain.max_age.count()) : 0;
  for (const model::Route& one : route.routes) {
    described.endpoints.push_back({route.service->endpoints[one.endpoint].address.to_string(), one.weight});
  }
}

api::RelayTls describe_tls(const model::Service& service) {
  const model::TlsPolicy& policy = *service.tls;
  if (policy.mode == model::TlsMode::kMutual) return {.mode = "mutual", .server_ids = policy.server_ids};
  return {.mode = "originate",
          .server_name = policy.server_name.empty() ? service.name : policy.server_name,
          .ca = policy.ca,
          .certificate = policy.certificate,
          .key = policy.key,
          .min_version = policy.min_version,
          .alpn = policy.alpn};
}

api::RelayService describe(const std::string& name, bool plain, const model::RoutingTable& routing) {
  api::RelayService described{.name = name};
  const model::ServiceRoute* found = nullptr;
  for (const auto& route : routing.services) {
    if (!is_meant(*route->service, name)) continue;
    if (found != nullptr) {
      described.error = "several services are called " + name + "; name its port too: " + name + ":" +
                        std::to_string(found->service->frontend.address.port);
      return described;
    }
    found = route.get();
  }
  if (found == nullptr) {
    described.error = "there is no service " + name + " for TCP";
    return described;
  }
  if (plain && found->service->is_relayed()) {
    described.error = "service " + name + " has tls: a listener that ends TLS would go on without; pass TLS through";
    return described;
  }
  described.full_name = found->service->name + ":" + std::to_string(found->service->frontend.address.port);
  describe_route(*found, described);
  return described;
}

}  // namespace

std::vector<api::RelayService> relay_services(const relay::Settings& settings, const model::RoutingTable& routing) {
  std::map<std::string, bool> names;  // and whether its endpoints get plain bytes
  for (const relay::ListenerSettings& listener : settings.listeners) {
    const bool plain = listener.mode == relay::Mode::kTerminate;
    if (!listener.service.empty()) names[listener.service] |= plain;
    for (const relay::NameRoute& route : listener.routes) names[route.service] |= plain;
  }
  for (const relay::MeshService& one : settings.mesh.services) names.try_emplace(one.service, false);
  std::vector<api::RelayService> services;
  for (const auto& [name, plain] : names) services.push_back(describe(name, plain, routing));
  for (const relay::MeshService& one : settings.mesh.services) {
    const auto described = std::ranges::find(services, one.service, &api::RelayService::name);
    for (const auto& route : routing.services) {
      if (!described->error.empty() || !is_meant(*route->service, described->full_name)) continue;
      for (const auto& endpoint : route->service->endpoints) described->members.push_back(endpoint.address.to_string());
    }
  }
  return services;
}

std::vector<api::RelayOutbound> relay_outbound(const model::RoutingTable& routing, const model::RoutingTable& kernel) {
  std::vector<api::RelayOutbound> outbound;
  for (std::size_t i = 0; i < kernel.services.size(); ++i) {
    const model::Service& stand_in = *kernel.services[i]->service;
    if (!stand_in.relay_listeners || stand_in.endpoints.empty()) continue;
    const model::ServiceRoute& route = *routing.services[i];
    const base::SocketAddress& frontend = route.service->frontend.address;
    api::RelayOutbound& one = outbound.emplace_back();
    one.name = route.service->name + ":" + std::to_string(frontend.port);
    one.frontend = frontend.to_string();
    one.listen = stand_in.endpoints.front().address.to_string();
    one.tls = describe_tls(*route.service);
    one.service.name = one.name;
    describe_route(route, one.service);
  }
  return outbound;
}

base::Result<void> RelayKeeper::start() {
  listener_ = MESH_TRY(listen_for_relays(options_.socket));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return base::fail_errno(errno, "create an eventfd");
  thread_ = std::thread([this] { run(); });
  return {};
}

void RelayKeeper::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    inbox_.stop = true;
  }
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
  ::unlink(options_.socket.c_str());  // the next agent listens when this one has let go of its tables
}

void RelayKeeper::set_settings(const relay::Settings& settings) {
  const std::lock_guard lock(mutex_);
  inbox_.settings = settings;
  ::eventfd_write(wake_.get(), 1);
}

void RelayKeeper::set_routing(model::RoutingTablePtr routing, model::RoutingTablePtr kernel) {
  const std::lock_guard lock(mutex_);
  inbox_.routing = std::move(routing);
  inbox_.kernel = std::move(kernel);
  ::eventfd_write(wake_.get(), 1);
}

void RelayKeeper::look() {
  std::optional<std::vector<base::NetNamespace>> places;
  if (has_outbound_) places = options_.find_places();
  const std::lock_guard lock(mutex_);
  if (places) inbox_.places = std::move(places);
  inbox_.look = true;
  ::eventfd_write(wake_.get(), 1);
}

api::RelayView RelayKeeper::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

RelayedNews RelayKeeper::take_news() {
  const std::lock_guard lock(mutex_);
  return endpoints_.take_news();
}

std::vector<health::RelayedConnections> RelayKeeper::relayed() const {
  const std::lock_guard lock(mutex_);
  return endpoints_.open();
}

void RelayKeeper::leave(api::RelayLeave endpoints) {
  const std::lock_guard lock(mutex_);
  inbox_.leave.push_back(std::move(endpoints));
  ::eventfd_write(wake_.get(), 1);
}

void RelayKeeper::run() {
  while (true) {
    std::vector<pollfd> ready{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const auto& peer : peers_) ready.push_back({peer->channel.fd(), POLLIN, 0});
    if (::poll(ready.data(), ready.size(), -1) < 0) continue;
    if (ready[0].revents != 0) {
      eventfd_t value = 0;
      ::eventfd_read(wake_.get(), &value);
      Inbox inbox;
      {
        const std::lock_guard lock(mutex_);
        inbox = std::exchange(inbox_, {});
      }
      if (inbox.stop) return;
      take_inbox(std::move(inbox));
    }
    for (std::size_t i = 2; i < ready.size(); ++i) {
      if (ready[i].revents == 0) continue;
      Peer& peer = *peers_[i - 2];
      if (const auto taken = take_message(peer); !taken) {
        if (peer.hello) kLog.info("relay gone", {{"pid", peer.hello->pid}, {"err", taken.error()}});
        peer.channel.close();
      }
    }
    forget_gone();
    std::erase_if(peers_, [](const auto& peer) { return !peer->channel.open(); });
    if (ready[1].revents != 0) accept();
    publish();
  }
}

void RelayKeeper::forget_gone() {
  const std::lock_guard lock(mutex_);
  for (const auto& peer : peers_) {
    if (!peer->channel.open()) endpoints_.forget(peer.get());
  }
}

void RelayKeeper::take_inbox(Inbox inbox) {
  for (const api::RelayLeave& endpoints : inbox.leave) {
    for (const auto& peer : peers_) {
      if (peer->hello && !peer->channel.send(api::encode(endpoints))) peer->channel.close();
    }
  }
  if (inbox.look) exempt();
  if (inbox.settings) {
    settings_ = std::move(inbox.settings);
    settings_text_ = encode_relay_settings(*settings_);
  }
  if (inbox.routing) {
    routing_ = std::move(inbox.routing);
    kernel_ = std::move(inbox.kernel);
  }
  if (inbox.places) places_ = std::move(*inbox.places);
  if (!settings_ || !routing_) return;
  auto services = relay_services(*settings_, *routing_);
  plaintext_.update(settings_->mesh, services, {base::wall_now(), datapath::boot_time()});
  for (const auto& service : services) {
    if (service.error.empty() || services_ == services) continue;
    kLog.warn("a listener leads nowhere", {{"service", service.name}, {"err", service.error}});
  }
  auto outbound = relay_outbound(*routing_, *kernel_);
  if (!has_outbound_.exchange(!outbound.empty()) && !outbound.empty()) places_ = options_.find_places();
  for (api::RelayOutbound& one : outbound) {
    const auto before = std::ranges::find(outbound_, one.frontend, &api::RelayOutbound::frontend);
    if (before != outbound_.end()) one.sockets = before->sockets;
  }
  const bool changed = inbox.settings || services_ != services || outbound_ != outbound;
  services_ = std::move(services);
  outbound_ = std::move(outbound);
  if (place_sockets() || changed) order();
}

/// To all relays but those that retire.
void RelayKeeper::order() {
  for (const auto& peer : peers_) {
    if (peer->hello && !peer->retired && !send_orders(*peer)) peer->channel.close();
  }
}

/// Sockets are there while a relay is, and a little longer: nobody is to wait for one that does not come. True if there
/// are others than before.
bool RelayKeeper::place_sockets() {
  if (!settings_ || !routing_) return false;  // what an earlier agent had is what there is
  const auto serves = [](const auto& peer) { return peer->hello && !peer->retired && peer->channel.open(); };
  std::vector<OutboundSockets::Wanted> wanted;
  if (std::ranges::any_of(peers_, serves)) {
    relayless_since_.reset();
  } else {
    const base::TimePoint now = base::steady_now();
    if (!relayless_since_) relayless_since_ = now;
    if (now - *relayless_since_ < kRelaylessMax) return false;
  }
  if (!relayless_since_) {
    for (const api::RelayOutbound& one : outbound_) {
      wanted.push_back({one.frontend, base::SocketAddress::parse(one.listen).value()});
    }
  }
  bool changed = sockets_.update(wanted, places_);
  std::map<std::string, std::vector<std::string>> names;  // also of those that a relay brought
  for (const auto& [socket, fd] : sockets_.all()) names[socket.frontend].push_back(socket.name());
  for (api::RelayOutbound& one : outbound_) {
    changed = changed || one.sockets != names[one.frontend];
    one.sockets = std::move(names[one.frontend]);
  }
  return changed;
}

void RelayKeeper::accept() {
  base::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid() || peers_.size() >= kPeersMax) return;
  peers_.push_back(std::make_unique<Peer>());
  peers_.back()->channel = RelayChannel(std::move(fd));
}

base::Result<void> RelayKeeper::take_message(Peer& peer) {
  RelayChannel::Message message = MESH_TRY(peer.channel.receive());
  if (message.kind() == api::RelaySockets::kKind) {
    const auto shown = MESH_TRY(api::from_document<api::RelaySockets>(message.body));
    for (std::size_t i = 0; i < std::min(shown.descriptors.size(), message.descriptors.size()); ++i) {
      if (const auto place = parse_owner_socket(shown.descriptors[i])) {
        peer.asks.insert(*place);
        continue;
      }
      if (const auto socket = OutboundSocket::parse(shown.descriptors[i])) peer.sockets.insert(*socket);
      sockets_.adopt(shown.descriptors[i], std::move(message.descriptors[i]));
    }
    return {};
  }
  if (message.kind() == api::RelayHello::kKind) {
    peer.hello = MESH_TRY(api::from_document<api::RelayHello>(message.body));
    keep(peer.hello->descriptors, message.descriptors);
    kLog.info("relay connected", {{"pid", peer.hello->pid}, {"version", peer.hello->version}});
    // The newest is in charge.
    const auto place = std::ranges::find(peers_, &peer, &std::unique_ptr<Peer>::get);
    std::rotate(place, place + 1, peers_.end());
    exempt();
    place_sockets();
    return send_orders(peer);
  }
  if (message.kind() != api::RelayReport::kKind || !peer.hello) return {};  // of another version
  peer.report = MESH_TRY(api::from_document<api::RelayReport>(message.body));
  keep(peer.report.descriptors, message.descriptors);
  {
    const std::lock_guard lock(mutex_);
    endpoints_.take(&peer, peer.report.endpoints);
    peer.report.endpoints.clear();
  }
  if (&peer != peers_.back().get() || !peer.report.serving) return {};
  std::erase_if(
      kept_, [&](const auto& one) { return std::ranges::find(peer.report.kept, one.first) == peer.report.kept.end(); });
  for (const auto& other : peers_) {
    if (other.get() == &peer || !other->hello || std::exchange(other->retired, true)) continue;
    kLog.info("relay retires", {{"pid", other->hello->pid}, {"successor", peer.hello->pid}});
    if (!other->channel.send(api::encode(api::RelayRetire{peer.hello->pid}))) other->channel.close();
  }
  return {};
}

void RelayKeeper::keep(const std::vector<std::string>& names, std::vector<base::Fd>& descriptors) {
  for (std::size_t i = 0; i < std::min(names.size(), descriptors.size()); ++i) {
    kept_[names[i]] = std::move(descriptors[i]);
  }
}

/// Those that it does not have yet.
base::Result<void> RelayKeeper::send_sockets(Peer& peer) {
  std::erase_if(peer.sockets, [this](const OutboundSocket& one) { return !sockets_.all().contains(one); });
  api::RelaySockets message;
  std::vector<int> descriptors;
  const auto send = [&]() -> base::Result<void> {
    MESH_CHECK(peer.channel.send(api::encode(message), descriptors));
    message.descriptors.clear();
    descriptors.clear();
    return {};
  };
  std::erase_if(peer.asks, [this](std::uint64_t place) {
    return std::ranges::none_of(sockets_.all(), [&](const auto& one) { return one.first.place == place; });
  });
  const auto is_mutual = [this](const OutboundSocket& socket) {
    const auto one = std::ranges::find(outbound_, socket.frontend, &api::RelayOutbound::frontend);
    return one != outbound_.end() && one->tls.mode == "mutual";
  };
  for (const auto& [socket, fd] : sockets_.all()) {
    if (!is_mutual(socket) || peer.asks.contains(socket.place)) continue;
    // One for each relay: who shares it would read the other's answers.
    const auto asking = sockets_.open_owner_socket(fd.get());
    if (!asking) {
      kLog.error("the relay can't ask who its clients are: they are refused", {{"err", asking.error()}});
      continue;
    }
    MESH_CHECK(peer.channel.send(api::encode(api::RelaySockets{{owner_socket_name(socket.place)}}),
                                 std::array{asking->get()}));
    peer.asks.insert(socket.place);
  }
  for (const auto& [socket, fd] : sockets_.all()) {
    if (!peer.sockets.insert(socket).second) continue;
    message.descriptors.push_back(socket.name());
    descriptors.push_back(fd.get());
    if (descriptors.size() == kRelayDescriptorsMax) MESH_CHECK(send());
  }
  if (!descriptors.empty()) MESH_CHECK(send());
  return {};
}

base::Result<void> RelayKeeper::send_orders(Peer& peer) {
  if (!services_) return {};
  MESH_CHECK(send_sockets(peer));
  api::RelayOrders orders{.settings = settings_text_,
                          .node = options_.node,
                          .cgroups = options_.cgroup_root,
                          .services = *services_,
                          .outbound = outbound_,
                          .descriptors = {}};
  std::vector<int> descriptors;
  if (!std::exchange(peer.ordered, true)) {
    for (const auto& [name, fd] : kept_) {
      orders.descriptors.push_back(name);
      descriptors.push_back(fd.get());
    }
  }
  return peer.channel.send(api::encode(orders), descriptors);
}

/// What relays connect to is not to be redirected once more. What was exempt stays so when they are gone.
void RelayKeeper::exempt() {
  std::vector<pid_t> relays;
  for (const auto& peer : std::views::reverse(peers_)) {
    if (peer->hello && peer->channel.open()) relays.push_back(peer->channel.peer());
  }
  if (relays.empty()) return;
  const auto exempt = options_.exempt(relays);
  const std::string error = exempt ? "" : exempt.error().to_string();
  if (std::exchange(exempt_error_, error) == error || error.empty()) return;
  kLog.warn("the relay's connections pass the hooks", {{"pid", relays.front()}, {"err", error}});
}

void RelayKeeper::publish() {
  api::RelayView view;
  view.exempt_error = exempt_error_;
  view.socket_errors = sockets_.errors();
  view.plaintext = plaintext_.view();
  if (!outbound_.empty() && places_.size() >= kOutboundNamespacesMax) {
    view.socket_errors.push_back("no more than " + std::to_string(kOutboundNamespacesMax) +
                                 " network namespaces are looked at: in others, connections are refused");
  }
  view.wanted =
      (settings_ && (!settings_->listeners.empty() || settings_->mesh.address.port != 0)) || !outbound_.empty();
  for (const auto& peer : peers_) {
    if (!peer->hello) continue;
    if (peer->retired) {
      ++view.retiring;
      continue;
    }
    if (view.connected && !peer->report.serving) continue;  // a successor that is not ready yet
    view.connected = peer->report.serving;
    view.pid = peer->hello->pid;
    view.version = peer->hello->version;
    view.report = peer->report;
  }
  if (services_) {
    for (const auto& service : *services_) {
      if (!service.error.empty()) view.errors.push_back(service.error);
    }
  }
  const std::lock_guard lock(mutex_);
  view_ = std::move(view);
}

}  // namespace mesh::app
