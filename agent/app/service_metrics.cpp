// SPDX-License-Identifier: Apache-2.0
#include "app/service_metrics.hpp"

#include <algorithm>
#include <cstring>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"
#include "app/kernel_view.hpp"
#include "base/clock.hpp"
#include "datapath/books.hpp"
#include "datapath/records.hpp"
#include "mesh_latency.h"

namespace mesh::app {
namespace {

using datapath::Table;

double latency_s(const mesh_backend_live& live, std::uint64_t now_ns) {
  constexpr double kSecondsPerUnit = MESH_LATENCY_UNIT_NS * 1e-9;
  return static_cast<double>(mesh_latency_value(live.latency, now_ns)) * kSecondsPerUnit;
}

}  // namespace

base::Result<void> ServiceMetricsReader::begin() {
  const std::scoped_lock lock(mutex_);
  std::vector<observe::ServiceMetrics> none;
  return look({}, none);
}

observe::Experience ServiceMetricsReader::of(const model::Frontend& frontend) const {
  const std::scoped_lock lock(mutex_);
  return ledger_.of(frontend);
}

base::Result<void> ServiceMetricsReader::note(const Reconciled& reconciled) {
  observe::MetricsInput unused;
  return read(reconciled, {}, unused);
}

base::Result<void> ServiceMetricsReader::read(const Reconciled& reconciled, const EjectionsByService& ejections,
                                              observe::MetricsInput& input) {
  if (!reconciled.routing) return {};
  const std::scoped_lock lock(mutex_);
  KernelView kernel(datapath_);
  kernel.refresh(reconciled.applies);
  OwnedIds owned;
  for (const auto& route : reconciled.routing->services) {
    const model::Service& service = *route->service;
    if (service.source == kInternalSource) continue;
    observe::ServiceMetrics& metrics = input.services.emplace_back();
    metrics.name = service.name;
    metrics.port = service.frontend.address.port;
    metrics.protocol = service.frontend.protocol;
    metrics.feedback = service.feedback;
    if (const auto found = ejections.find(service.frontend); found != ejections.end())
      metrics.ejections = found->second;
    if (route->standing) {
      input.on_probation += static_cast<std::uint64_t>(std::ranges::count(
          route->standing->endpoints, model::Ejection::kProbation, &model::EndpointStanding::ejection));
    }
    const std::uint32_t id = kernel.service_id(service.frontend);
    metrics.counters = kernel.counters(id);
    owned[id] = {{metrics.name, metrics.port, metrics.protocol}, input.services.size() - 1};
    for (const model::Eligibility eligibility : route->eligibility) {
      ++metrics.endpoints[static_cast<std::size_t>(eligibility)];
      ++input.endpoints[static_cast<std::size_t>(eligibility)];
    }
    input.services_without_backend += route->routes.empty() ? 1 : 0;
  }
  MESH_CHECK(look(owned, input.services));
  for (observe::ServiceMetrics& metrics : input.services) {
    metrics.experience = ledger_.of({metrics.name, metrics.port, metrics.protocol});
  }
  return {};
}

base::Result<void> ServiceMetricsReader::look(const OwnedIds& owned, std::vector<observe::ServiceMetrics>& services) {
  const datapath::MapSet& maps = datapath_.maps();
  const auto& store = datapath_.store();
  const datapath::BackendIndex index(store);
  const datapath::KernelBooks books(maps);
  std::vector<std::uint32_t> ids;
  std::vector<const mesh_backend*> of;                           // parallel to ids
  std::unordered_map<std::uint32_t, model::Frontend> frontends;  // of services that were ever used
  ledger_.begin();
  for (const auto& [id, one] : owned) ledger_.meet(one.key);
  for (std::uint32_t id = 1; id < maps.sizes().services; ++id) {
    if (books.connects(id) == 0) continue;
    const auto service = maps.read<mesh_service>(Table::kServices, id);
    if (service.flags == 0) continue;
    ledger_.meet(frontends.emplace(id, datapath::frontend_of(service.frontend)).first->second);
    for (const auto& entry : index.of(id)) {
      // Given to another endpoint since the ids were read: the next look has it.
      if (store.backend(entry.id).generation != entry.backend.generation) continue;
      ids.push_back(entry.id);
      of.push_back(&entry.backend);
    }
  }
  const auto now_ns = static_cast<std::uint64_t>(base::steady_now().time_since_epoch().count());
  std::size_t at = 0;
  MESH_CHECK(books.read(ids, [&](std::uint32_t id, const datapath::Book& book) {
    const mesh_backend& backend = *of[at++];
    const auto owner = owned.find(backend.service_id);
    ledger_.add(owner == owned.end() ? nullptr : &owner->second.key, frontends.at(backend.service_id), id,
                backend.generation, book.live, book.outcomes);
    if (owner == owned.end() || book.live.opened == 0) return;
    observe::ServiceMetrics& metrics = services[owner->second.index];
    metrics.active += book.live.opened - std::min(book.live.opened, book.live.closed);
    if (!per_backend_) return;
    metrics.backends.push_back(
        {datapath::address_of(backend).to_string(), book.live, book.outcomes, latency_s(book.live, now_ns)});
  }));
  const std::size_t value_size = maps.shape(Table::kServiceLatency).value_size;
  MESH_CHECK(datapath::scan_hash(maps.fd(Table::kServiceLatency), maps.shape(Table::kServiceLatency),
                                 [&](const std::byte* key, const std::byte* value) {
                                   std::uint32_t id = 0;
                                   mesh_service_latency latency{};
                                   std::memcpy(&id, key, sizeof(id));
                                   std::memcpy(&latency, value, std::min<std::size_t>(sizeof(latency), value_size));
                                   const auto owner = owned.find(id);
                                   ledger_.add(owner == owned.end() ? nullptr : &owner->second.key, id, latency);
                                 }));
  ledger_.end();
  return {};
}

}  // namespace mesh::app
