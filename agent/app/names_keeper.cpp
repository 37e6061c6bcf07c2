// SPDX-License-Identifier: Apache-2.0
#include "app/names_keeper.hpp"

#include <algorithm>
#include <utility>

#include "app/internal_source.hpp"
#include "base/log.hpp"

namespace mesh::app {
namespace {

model::ServicePtr stand_in(const base::SocketAddress& resolver, std::uint16_t port, model::Protocol protocol) {
  auto service = std::make_shared<model::Service>();
  service->name = "resolver";
  service->frontend = {resolver, protocol};
  service->feedback = false;
  service->ejection.enabled = false;
  service->drain.timeout.reset();
  service->own_listeners = true;
  service->source = kInternalSource;
  const char* loopback = resolver.ip.is_v4() ? "127.0.0.1" : "::1";
  service->endpoints.push_back({.address = {base::IpAddress::parse(loopback).value(), port}});
  return service;
}

}  // namespace

NamesKeeper::NamesKeeper(Options options)
    : options_(std::move(options)), responder_({.mark = options_.mark}), ports_(options_.settings.port) {
  for (const std::string& text : options_.settings.resolvers) {
    always_.push_back({base::IpAddress::parse(text).value(), names::kDnsPort});
  }
}

base::Result<void> NamesKeeper::start() {
  MESH_CHECK(responder_.start());
  look();
  publish_resolvers();
  return {};
}

void NamesKeeper::set_services(const model::SnapshotPtr& snapshot) {
  if (named_ && names::same_names(*named_, *snapshot)) return;
  named_ = snapshot;
  responder_.set_zone(std::make_shared<const names::Zone>(*snapshot, options_.settings.domain, options_.hidden));
}

void NamesKeeper::look() {
  std::vector<names::Place> places;
  for (const names::FoundPlace& found : names::find_places(options_.cgroup_folders, options_.own_folder)) {
    names::Place& place = places.emplace_back();
    place.id = found.id;
    place.path = found.path;
    std::vector<base::SocketAddress> resolvers = always_;
    resolvers.insert(resolvers.end(), found.resolvers.begin(), found.resolvers.end());
    for (const base::SocketAddress& resolver : resolvers) {
      const std::uint16_t port = ports_.port_of(resolver);
      if (port != 0) {
        place.resolvers.push_back({resolver, port});
      } else if (!std::exchange(full_said_, true)) {
        base::log::warn("names are not answered for clients of a resolver: there are too many others",
                        {{"resolver", resolver.to_string()}, {"limit", names::kResolversMax}});
      }
    }
    std::ranges::sort(place.resolvers);
    const auto repeated = std::ranges::unique(place.resolvers);
    place.resolvers.erase(repeated.begin(), repeated.end());
  }
  responder_.set_places(std::move(places));
  if (ports_.all().size() != published_) publish_resolvers();
}

void NamesKeeper::publish_resolvers() {
  auto update = std::make_shared<model::Update>();
  update->generation = ++generation_;
  for (const auto& [resolver, port] : ports_.all()) {
    for (const auto protocol : {model::Protocol::kTcp, model::Protocol::kUdp}) {
      update->services.push_back(stand_in(resolver, port, protocol));
    }
  }
  published_ = ports_.all().size();
  update->status.name = kInternalSource;
  update->status.state = model::SourceState::kSynced;
  options_.publish(std::move(update));
}

}  // namespace mesh::app
