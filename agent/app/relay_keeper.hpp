// SPDX-License-Identifier: Apache-2.0
// The agent's side of the relay: tells it what to listen on and how services are routed, keeps its listening sockets,
// and retires an earlier relay once its successor serves. A relay that is away costs nothing but a condition.
//
// Sockets of services that TLS is begun for are the agent's from the beginning (outbound_sockets.hpp).
//
// The sockets are kept here as well as in the relay, so that none is closed while one of both lives: connections that
// come while the relay is restarted wait in the kernel, and an agent that is restarted gets them back with the hello.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "api/relay.hpp"
#include "app/outbound_sockets.hpp"
#include "app/plaintext_keeper.hpp"
#include "app/relay_channel.hpp"
#include "app/relay_endpoints.hpp"
#include "base/clock.hpp"
#include "model/routing.hpp"
#include "relay/settings.hpp"

namespace mesh::app {

/// How the services that listeners name are routed, in the order of their names.
std::vector<api::RelayService> relay_services(const relay::Settings& settings, const model::RoutingTable& routing);

/// Services that come to the relay, without sockets, in the order of their frontends.
std::vector<api::RelayOutbound> relay_outbound(const model::RoutingTable& routing, const model::RoutingTable& kernel);

/// So long without a relay the sockets of services with TLS stay, and clients wait; then they are refused.
inline constexpr std::chrono::seconds kRelaylessMax{10};

class RelayKeeper {
 public:
  struct Options {
    std::string socket;       ///< Where relays come.
    std::string cgroup_root;  ///< Where cgroups are mounted.
    std::string node;         ///< How this one is called; the relay may have to know whether it is meant.
    /// Leaves the connections of these processes alone, all relays that are connected, the one in charge first.
    std::function<base::Result<void>(std::span<const pid_t> relays)> exempt;
    OutboundSockets::Mark mark;
    /// Network namespaces with clients.
    std::function<std::vector<base::NetNamespace>()> find_places;
    PlaintextKeeper::MakeGuard make_guard;
  };

  explicit RelayKeeper(Options options)
      : options_(std::move(options)), sockets_(options_.mark), plaintext_(options_.make_guard) {}
  ~RelayKeeper() { stop(); }

  base::Result<void> start();
  void stop();

  // From any thread; the newest wins. Until both are known a relay gets no orders and goes on as it was.
  void set_settings(const relay::Settings& settings);
  /// `kernel`: the same table with the stand-ins of services that come to the relay.
  void set_routing(model::RoutingTablePtr routing, model::RoutingTablePtr kernel);
  /// To be called every second, from a thread that may read all of /proc: looks again at what nobody tells.
  void look();
  [[nodiscard]] api::RelayView view() const;
  /// What connections of relays experienced since the last call.
  [[nodiscard]] RelayedNews take_news();
  /// Endpoints to which relays have connections.
  [[nodiscard]] std::vector<health::RelayedConnections> relayed() const;
  /// Ends the connections of all relays to these.
  void leave(api::RelayLeave endpoints);

 private:
  struct Peer {
    RelayChannel channel;
    std::optional<api::RelayHello> hello;
    api::RelayReport report;
    bool ordered = false;  ///< It had its first orders, and with them all that is kept.
    bool retired = false;
    std::set<OutboundSocket> sockets;  ///< Of ours, it has these.
    std::set<std::uint64_t> asks;      ///< In these namespaces it can ask for owners.
  };
  struct Inbox {
    std::optional<relay::Settings> settings;
    model::RoutingTablePtr routing;
    model::RoutingTablePtr kernel;
    std::optional<std::vector<base::NetNamespace>> places;
    std::vector<api::RelayLeave> leave;
    bool look = false;
    bool stop = false;
  };

  void run();
  void take_inbox(Inbox inbox);
  void forget_gone();
  void accept();
  base::Result<void> take_message(Peer& peer);
  void keep(const std::vector<std::string>& names, std::vector<base::Fd>& descriptors);
  base::Result<void> send_orders(Peer& peer);
  base::Result<void> send_sockets(Peer& peer);
  void order();
  bool place_sockets();
  void exempt();
  void publish();

  const Options options_;
  base::Fd listener_;
  base::Fd wake_;
  std::thread thread_;

  mutable std::mutex mutex_;
  Inbox inbox_;  ///< Guarded by mutex_, as the next.
  api::RelayView view_;
  RelayedEndpoints endpoints_;

  // The thread's own.
  std::string exempt_error_;
  std::vector<std::unique_ptr<Peer>> peers_;  ///< In the order they came; the last one that said hello is in charge.
  std::map<std::string, base::Fd> kept_;
  std::optional<relay::Settings> settings_;
  std::string settings_text_;
  model::RoutingTablePtr routing_;
  model::RoutingTablePtr kernel_;
  std::optional<std::vector<api::RelayService>> services_;  ///< As ordered last, and the next.
  std::vector<api::RelayOutbound> outbound_;
  OutboundSockets sockets_;
  PlaintextKeeper plaintext_;
  std::vector<base::NetNamespace> places_;
  std::optional<base::TimePoint> relayless_since_;
  std::atomic<bool> has_outbound_ = false;  ///< For whoever looks.
};

}  // namespace mesh::app
