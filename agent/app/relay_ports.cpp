// SPDX-License-Identifier: Apache-2.0
#include "app/relay_ports.hpp"

#include <algorithm>
#include <utility>

namespace mesh::app {

void RelayPorts::restore(const model::Frontend& frontend, std::uint16_t port) {
  if (port < first_ || port >= first_ + kRelayPortsMax || !taken_.insert(port).second) return;
  ports_[frontend].port = port;
  next_ = std::max<std::uint16_t>(next_, static_cast<std::uint16_t>(port + 1));
}

std::uint16_t RelayPorts::take_port() {
  for (std::uint32_t tried = 0; tried < kRelayPortsMax; ++tried) {
    if (next_ >= first_ + kRelayPortsMax) next_ = first_;
    const std::uint16_t port = next_++;
    if (taken_.insert(port).second) return port;
  }
  return 0;
}

model::ServiceRoutePtr RelayPorts::stand_in(const model::ServiceRoute& route) {
  const model::Frontend& frontend = route.service->frontend;
  Port& own = ports_[frontend];
  if (own.port == 0) own.port = take_port();
  if (own.port == 0) without_port_.push_back(frontend);
  const bool open = own.port != 0 && !route.routes.empty();
  if (own.of == route.service && own.stand_in && own.stand_in->routes.empty() != open) return own.stand_in;
  auto service = std::make_shared<model::Service>(*route.service);
  const char* loopback = frontend.address.ip.is_v4() ? "127.0.0.1" : "::1";
  service->relay_listeners = true;
  service->algorithm = model::Algorithm::kWeightedRandom;
  service->affinity_timeout = {};
  service->ejection.enabled = false;
  service->slow_start = {};
  service->probe.reset();
  service->parts.clear();
  service->endpoints.clear();
  if (own.port != 0) service->endpoints.push_back({.address = {base::IpAddress::parse(loopback).value(), own.port}});
  auto made = std::make_shared<model::ServiceRoute>();
  made->service = std::move(service);
  made->eligibility.assign(made->service->endpoints.size(), model::Eligibility::kEligible);
  if (open) made->routes.push_back({});
  own.of = route.service;
  own.stand_in = std::move(made);
  return own.stand_in;
}

model::RoutingTablePtr RelayPorts::stand_in(const model::RoutingTablePtr& routing) {
  if (routing == made_for_) return made_;
  const auto relayed = [](const model::ServiceRoutePtr& route) { return route->service->is_relayed(); };
  std::map<model::Frontend, Port> before = std::exchange(ports_, {});
  // First those that are still there: what is given up may be given to others.
  for (const model::ServiceRoutePtr& route : routing->services) {
    if (!relayed(route)) continue;
    if (auto known = before.extract(route->service->frontend)) ports_.insert(std::move(known));
  }
  for (const auto& [frontend, port] : before) taken_.erase(port.port);
  without_port_.clear();
  made_for_ = made_ = routing;
  if (std::ranges::none_of(routing->services, relayed)) return made_;
  auto table = std::make_shared<model::RoutingTable>(*routing);
  for (model::ServiceRoutePtr& route : table->services) {
    if (relayed(route)) route = stand_in(*route);
  }
  made_ = std::move(table);
  return made_;
}

}  // namespace mesh::app
