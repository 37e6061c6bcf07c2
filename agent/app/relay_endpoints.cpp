// SPDX-License-Identifier: Apache-2.0
#include "app/relay_endpoints.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace mesh::app {
namespace {

constexpr std::array kCounters{&api::RelayEndpointView::begun,       &api::RelayEndpointView::established,
                               &api::RelayEndpointView::refused,     &api::RelayEndpointView::timed_out,
                               &api::RelayEndpointView::unreachable, &api::RelayEndpointView::not_agreed,
                               &api::RelayEndpointView::closed,      &api::RelayEndpointView::cut_off};

}  // namespace

std::vector<api::RelayEndpointView> endpoint_views(relay::EndpointLoads& loads) {
  loads.prune();
  std::vector<api::RelayEndpointView> views;
  for (const auto& [key, load] : loads.all()) {
    if (load->begun == 0) continue;
    views.push_back({.frontend = key.first.to_string(),
                     .endpoint = key.second.to_string(),
                     .open = load->open,
                     .begun = load->begun,
                     .established = load->established,
                     .refused = load->refused,
                     .timed_out = load->timed_out,
                     .unreachable = load->unreachable,
                     .not_agreed = load->not_agreed,
                     .closed = load->closed,
                     .cut_off = load->cut_off});
  }
  return views;
}

void leave_endpoints(const api::RelayLeave& leave, const relay::EndpointLoads& loads,
                     std::span<const std::unique_ptr<relay::Worker>> workers) {
  for (const api::RelayLeave::Item& item : leave.items) {
    const auto frontend = base::SocketAddress::parse(item.frontend);
    const auto endpoint = base::SocketAddress::parse(item.endpoint);
    if (!frontend || !endpoint) continue;
    const auto load = loads.find({*frontend, *endpoint});
    if (!load) continue;
    for (const auto& worker : workers) worker->leave(load);
  }
}

void end_aged(const relay::EndpointLoads& loads, std::span<const std::unique_ptr<relay::Worker>> workers) {
  if (std::ranges::none_of(loads.all(), [](const auto& one) { return one.second->max_age > 0; })) return;
  for (const auto& worker : workers) worker->end_aged();
}

health::Experience experience_of(const base::SocketAddress& endpoint, const api::RelayEndpointView& news,
                                 const model::EjectionPolicy& policy) {
  health::Experience experience{.endpoint = endpoint, .opened = news.begun};
  const auto mishap = [&](health::Mishap what) -> std::uint64_t& {
    return experience.mishaps[static_cast<std::size_t>(what)];
  };
  mishap(health::Mishap::kRefused) = news.refused;
  mishap(health::Mishap::kTimedOut) = news.timed_out;
  mishap(health::Mishap::kUnreachable) = news.unreachable;
  mishap(health::Mishap::kTls) = news.not_agreed;
  if (policy.count_reset) mishap(health::Mishap::kReset) = news.cut_off;
  // A connection that may still be cut off has succeeded when it ended well.
  experience.successes = policy.count_reset ? news.closed : news.established;
  return experience;
}

void RelayedEndpoints::take(Reporter reporter, const std::vector<api::RelayEndpointView>& endpoints) {
  const auto [known, is_new] = reports_.try_emplace(reporter);
  Report report;
  for (const api::RelayEndpointView& one : endpoints) {
    const auto frontend = base::SocketAddress::parse(one.frontend);
    const auto endpoint = base::SocketAddress::parse(one.endpoint);
    if (!frontend || !endpoint) continue;
    const health::EndpointKey key{{*frontend, model::Protocol::kTcp}, *endpoint};
    report[key] = one;
    if (is_new) continue;
    const auto found = known->second.find(key);
    const api::RelayEndpointView before = found == known->second.end() ? api::RelayEndpointView{} : found->second;
    for (const auto counter : kCounters) {
      if (one.*counter == before.*counter) continue;
      // One that went backwards began anew: the relay had forgotten the endpoint.
      news_[key].*counter += one.*counter - (one.*counter > before.*counter ? before.*counter : 0);
    }
  }
  known->second = std::move(report);
}

RelayedNews RelayedEndpoints::take_news() { return std::exchange(news_, {}); }

std::vector<health::RelayedConnections> RelayedEndpoints::open() const {
  std::map<health::EndpointKey, std::size_t> open;
  for (const auto& [reporter, report] : reports_) {
    for (const auto& [key, one] : report) {
      if (one.open > 0) open[key] += one.open;
    }
  }
  std::vector<health::RelayedConnections> all;
  for (const auto& [key, count] : open) all.push_back({key, count});
  return all;
}

}  // namespace mesh::app
