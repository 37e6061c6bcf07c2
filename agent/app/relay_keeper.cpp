// SPDX-License-Identifier: Apache-2.0
#include "app/relay_keeper.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ranges>
#include <set>

#include "app/relay_keys.hpp"
#include "base/log.hpp"

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

api::RelayService describe(const std::string& name, const model::RoutingTable& routing) {
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
  described.algorithm = model::to_string(found->service->algorithm);
  described.maglev_size = found->service->maglev_size;
  for (const model::Route& route : found->routes) {
    described.endpoints.push_back({found->service->endpoints[route.endpoint].address.to_string(), route.weight});
  }
  return described;
}

}  // namespace

std::vector<api::RelayService> relay_services(const relay::Settings& settings, const model::RoutingTable& routing) {
  std::set<std::string> names;
  for (const relay::ListenerSettings& listener : settings.listeners) {
    if (!listener.service.empty()) names.insert(listener.service);
    for (const relay::NameRoute& route : listener.routes) names.insert(route.service);
  }
  std::vector<api::RelayService> services;
  for (const std::string& name : names) services.push_back(describe(name, routing));
  return services;
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
}

void RelayKeeper::set_settings(const relay::Settings& settings) {
  const std::lock_guard lock(mutex_);
  inbox_.settings = settings;
  ::eventfd_write(wake_.get(), 1);
}

void RelayKeeper::set_routing(model::RoutingTablePtr routing) {
  const std::lock_guard lock(mutex_);
  inbox_.routing = std::move(routing);
  ::eventfd_write(wake_.get(), 1);
}

void RelayKeeper::look() {
  const std::lock_guard lock(mutex_);
  inbox_.look = true;
  ::eventfd_write(wake_.get(), 1);
}

api::RelayView RelayKeeper::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
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
    std::erase_if(peers_, [](const auto& peer) { return !peer->channel.open(); });
    if (ready[1].revents != 0) accept();
    publish();
  }
}

void RelayKeeper::take_inbox(Inbox inbox) {
  if (inbox.look) exempt();
  if (inbox.settings) {
    settings_ = std::move(inbox.settings);
    settings_text_ = encode_relay_settings(*settings_);
  }
  if (inbox.routing) routing_ = std::move(inbox.routing);
  if (!settings_ || !routing_) return;
  auto services = relay_services(*settings_, *routing_);
  if (!inbox.settings && services_ == services) return;
  for (const auto& service : services) {
    if (!service.error.empty())
      kLog.warn("a listener leads nowhere", {{"service", service.name}, {"err", service.error}});
  }
  services_ = std::move(services);
  for (const auto& peer : peers_) {
    if (peer->hello && !peer->retired && !send_orders(*peer)) peer->channel.close();
  }
}

void RelayKeeper::accept() {
  base::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid() || peers_.size() >= kPeersMax) return;
  peers_.push_back(std::make_unique<Peer>());
  peers_.back()->channel = RelayChannel(std::move(fd));
}

base::Result<void> RelayKeeper::take_message(Peer& peer) {
  RelayChannel::Message message = MESH_TRY(peer.channel.receive());
  if (message.kind() == api::RelayHello::kKind) {
    peer.hello = MESH_TRY(api::from_document<api::RelayHello>(message.body));
    keep(peer.hello->descriptors, message.descriptors);
    kLog.info("relay connected", {{"pid", peer.hello->pid}, {"version", peer.hello->version}});
    // The newest is in charge.
    const auto place = std::ranges::find(peers_, &peer, &std::unique_ptr<Peer>::get);
    std::rotate(place, place + 1, peers_.end());
    exempt();
    return send_orders(peer);
  }
  if (message.kind() != api::RelayReport::kKind || !peer.hello) return {};  // of another version
  peer.report = MESH_TRY(api::from_document<api::RelayReport>(message.body));
  keep(peer.report.descriptors, message.descriptors);
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

base::Result<void> RelayKeeper::send_orders(Peer& peer) {
  if (!services_) return {};
  api::RelayOrders orders{.settings = settings_text_, .services = *services_};
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
  view.wanted = settings_ && !settings_->listeners.empty();
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
