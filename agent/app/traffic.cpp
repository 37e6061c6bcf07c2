// SPDX-License-Identifier: Apache-2.0
#include "app/traffic.hpp"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"
#include "app/target.hpp"
#include "datapath/books.hpp"
#include "datapath/counters.hpp"
#include "datapath/inspect.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

constexpr auto kOutcomesWithSrtt = {MESH_CLOSED, MESH_RESET, MESH_LOST, MESH_RESET_BY_US, MESH_KILLED};

struct Found {
  const model::Service* service = nullptr;
  std::uint32_t id = 0;
  datapath::ServiceCounts counts;
};

api::TrafficCounts counts_of(const datapath::Book& book) {
  const mesh_backend_outcomes& outcomes = book.outcomes;
  api::TrafficCounts counts;
  counts.opened = book.live.opened;
  counts.closed = book.live.closed;
  counts.established = book.live.established;
  counts.failed = book.live.failed;
  counts.cut = outcomes.ended[MESH_RESET] + outcomes.ended[MESH_LOST];
  counts.bytes_out = outcomes.bytes_out;
  counts.bytes_in = outcomes.bytes_in;
  counts.retransmits = outcomes.retransmits;
  counts.srtt_us = outcomes.srtt_us;
  for (const auto outcome : kOutcomesWithSrtt) counts.srtt_count += outcomes.ended[outcome];
  return counts;
}

/// Of a service: `open` connections now, and what all its connections experienced, also to backends that are gone.
api::TrafficCounts counts_of(const datapath::ServiceCounts& service, std::uint64_t open,
                             const observe::Experience& experience) {
  api::TrafficCounts counts;
  counts.opened = service.connects;
  counts.closed = service.connects - std::min(service.connects, open);
  counts.established = experience.established;
  counts.failed = experience.failed;
  counts.cut = experience.ended[MESH_RESET] + experience.ended[MESH_LOST];
  counts.bytes_out = experience.bytes_out;
  counts.bytes_in = experience.bytes_in;
  counts.retransmits = experience.retransmits;
  counts.srtt_us = experience.srtt_us;
  for (const auto outcome : kOutcomesWithSrtt) counts.srtt_count += experience.ended[outcome];
  return counts;
}

template <typename Buckets>
std::vector<std::uint64_t> list_of(const Buckets& buckets) {
  return {std::begin(buckets), std::end(buckets)};
}

base::Result<api::ServiceTraffic> traffic_of(datapath::Datapath& datapath, const Found& found,
                                             const datapath::BackendIndex& index, const ServiceMetricsReader& totals,
                                             const observe::FlowLog& log) {
  api::ServiceTraffic traffic;
  traffic.service = found.service->name;
  traffic.frontend = found.service->frontend.to_string();
  traffic.feedback = found.service->feedback;
  traffic.refused = found.counts.refused;
  std::vector<std::uint32_t> ids;
  std::unordered_map<std::uint32_t, std::size_t> at;
  for (const auto& [id, backend] : index.of(found.id)) {
    at.emplace(id, ids.size());
    ids.push_back(id);
    traffic.backends.push_back({datapath::address_of(backend).to_string(), id, backend.generation, {}});
  }
  std::uint64_t open = 0;
  const auto read = datapath::KernelBooks(datapath.maps()).read(ids, [&](std::uint32_t id, const datapath::Book& book) {
    api::BackendTraffic& backend = traffic.backends[at.at(id)];
    backend.counts = counts_of(book);
    open += book.live.opened - std::min(book.live.opened, book.live.closed);
    backend.counts.latency = list_of(log.latencies(id, backend.generation));
  });
  if (!read) return std::unexpected(read.error());
  traffic.counts = counts_of(found.counts, open, totals.of(found.service->frontend));
  traffic.counts.latency = list_of(datapath::read_service_latency(datapath.maps(), found.id).buckets);
  return traffic;
}

}  // namespace

base::Result<api::TrafficList> list_traffic(datapath::Datapath& datapath, const model::RoutingTablePtr& routing,
                                            const ServiceMetricsReader& totals, const observe::FlowLog& log,
                                            const api::TrafficRequest& request, base::TimePoint now) {
  api::TrafficList list;
  list.at_s = std::chrono::duration<double>(now.time_since_epoch()).count();
  std::optional<Target> target;
  if (!request.service.empty()) target = MESH_TRY(Target::parse(request.service));
  std::unordered_map<model::Frontend, std::uint32_t, model::FrontendHash> ids;
  MESH_CHECK(datapath.store().for_each_frontend(
      [&](const mesh_frontend_key& key, std::uint32_t id) { ids.emplace(datapath::frontend_of(key), id); }));
  std::vector<Found> found;
  bool any = false;
  for (const auto& route : routing ? routing->services : std::vector<model::ServiceRoutePtr>{}) {
    const model::Service& service = *route->service;
    if (service.source == kInternalSource || (target && !target->matches(service))) continue;
    any = true;
    const auto id = ids.find(service.frontend);
    if (id == ids.end()) continue;
    const auto counts = datapath::read_service_counts(datapath.maps(), id->second);
    if (counts.connects + counts.datagrams + counts.refused > 0) found.push_back({&service, id->second, counts});
  }
  if (target && !any) {
    return base::fail(base::ErrorKind::kNotFound, "find service " + request.service + ": there is none",
                      "`meshctl services` lists them");
  }
  std::ranges::sort(found, std::ranges::greater(), [](const Found& one) { return one.counts.connects; });
  if (found.size() > request.limit) {
    list.left_out = found.size() - request.limit;
    found.resize(request.limit);
  }
  const datapath::BackendIndex index(datapath.store());
  for (const Found& one : found) list.items.push_back(MESH_TRY(traffic_of(datapath, one, index, totals, log)));
  return list;
}

}  // namespace mesh::app
