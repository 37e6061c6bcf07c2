// SPDX-License-Identifier: Apache-2.0
#include "app/chronicle.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

constexpr auto kPlanWindow = std::chrono::seconds(10);
constexpr auto kRefusalInterval = std::chrono::seconds(1);

/// The label of the service that has the frontend; the address alone where it is gone.
std::string label_of(const model::RoutingTablePtr& table, const model::Frontend& frontend) {
  if (!table) return frontend.to_string();
  const auto key = [](const model::ServiceRoutePtr& route) -> const model::Frontend& {
    return route->service->frontend;
  };
  const auto found = std::ranges::lower_bound(table->services, frontend, {}, key);
  return found != table->services.end() && key(*found) == frontend ? service_label(*(*found)->service)
                                                                   : frontend.to_string();
}

}  // namespace

Chronicle::Chronicle(const datapath::Datapath& datapath, observe::Journal& journal)
    : datapath_(datapath), journal_(journal), routes_(kInternalSource) {}

void Chronicle::look(const Watcher::Round& round) {
  for (auto& event : routes_.look(round.reconciled->routing)) journal_.note(std::move(event));
  look_at_plans(*round.reconciled);
  if (round.now < refusals_at_) return;
  refusals_at_ = round.now + kRefusalInterval;
  look_at_refusals(round);
}

void Chronicle::look_at_plans(const Reconciled& reconciled) {
  if (reconciled.kernel_generation != generation_) {
    generation_ = reconciled.kernel_generation;
    journal_.note({"", std::string(api::history::kPlan), "", "",
                   fmt::format("generation {} applied in {:.1f} ms", generation_,
                               std::chrono::duration<double, std::milli>(reconciled.apply_duration).count()),
                   1},
                  kPlanWindow);
  }
  const std::string error = reconciled.error ? reconciled.error->to_string() : "";
  if (error != error_ && !error.empty()) {
    journal_.note({"", std::string(api::history::kPlanFailed), "", "", error, 1}, kPlanWindow);
  }
  error_ = error;
}

void Chronicle::look_at_refusals(const Watcher::Round& round) {
  const datapath::MapSet& maps = datapath_.maps();
  std::vector<RefusalNotes::Count> counts;
  for (std::uint32_t id = 1; id < maps.sizes().services; ++id) {
    if (maps.read<mesh_service>(datapath::Table::kServices, id).flags == 0) continue;
    const auto service = datapath::read_service_counts(maps, id);
    counts.push_back({id, service.refused, service.refused_no_backend});
  }
  const auto label = [&](std::uint32_t id) {
    const auto service = maps.read<mesh_service>(datapath::Table::kServices, id);
    return label_of(round.reconciled->routing, datapath::frontend_of(service.frontend));
  };
  for (auto& event : refusals_.look(counts, label, round.now)) journal_.note(std::move(event));
}

}  // namespace mesh::app
