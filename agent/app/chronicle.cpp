// SPDX-License-Identifier: Apache-2.0
#include "app/chronicle.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"
#include "base/log.hpp"
#include "base/plural.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

constexpr auto kPlanWindow = std::chrono::seconds(10);
constexpr auto kServicesInterval = std::chrono::seconds(1);

constexpr base::log::Logger kLog{"watcher"};

/// "40 us", "1.3 ms"
std::string in_words(base::Duration duration) {
  const auto us = std::chrono::duration<double, std::micro>(duration).count();
  return us < 100 ? fmt::format("{:.0f} us", us) : fmt::format("{:.1f} ms", us / 1000);
}

}  // namespace

Chronicle::Chronicle(const datapath::Datapath& datapath, observe::Journal& journal)
    : datapath_(datapath), journal_(journal), routes_(kInternalSource) {}

void Chronicle::look(const Watcher::Round& round) {
  for (auto& event : routes_.look(round.reconciled->routing)) {
    if (event.kind == api::history::kProbe) {  // the logger's own limit holds a storm of them back
      kLog.info("probe verdict changed",
                {{"service", event.service}, {"endpoint", event.endpoint}, {"what", event.text}});
    }
    journal_.note(std::move(event));
  }
  look_at_repairs(*round.reconciled);
  look_at_plans(*round.reconciled);
  if (round.now < services_at_) return;
  services_at_ = round.now + kServicesInterval;
  look_at_services(round);
}

void Chronicle::look_at_repairs(const Reconciled& reconciled) {
  const std::uint64_t before = std::exchange(repaired_, reconciled.drift_repaired);
  if (reconciled.drift_repaired == before) return;
  journal_.note({"", std::string(api::history::kRepaired), "", "",
                 fmt::format("kernel tables differed from what was applied: {}, the first: {}",
                             base::counted(reconciled.drift_repaired - before, "difference"), reconciled.drift_last),
                 1});
}

void Chronicle::look_at_plans(const Reconciled& reconciled) {
  if (reconciled.kernel_generation != generation_) {
    generation_ = reconciled.kernel_generation;
    journal_.note({"", std::string(api::history::kPlan), "", "",
                   fmt::format("generation {} applied in {}", generation_, in_words(reconciled.apply_duration)), 1},
                  kPlanWindow);
  }
  const std::string error = reconciled.error ? reconciled.error->to_string() : "";
  if (error != error_ && !error.empty()) {
    journal_.note({"", std::string(api::history::kPlanFailed), "", "", error, 1}, kPlanWindow);
  }
  error_ = error;
}

void Chronicle::look_at_services(const Watcher::Round& round) {
  const datapath::MapSet& maps = datapath_.maps();
  std::vector<RefusalNotes::Count> counts;
  PauseNotes::Pauses pauses{{"", maps.control().pass_until_ns}};
  for (std::uint32_t id = 1; id < maps.sizes().services; ++id) {
    const auto service = maps.read<mesh_service>(datapath::Table::kServices, id);
    if (service.flags == 0) continue;
    if (service.pass_until_ns != 0) {
      pauses[service_label(round.reconciled->routing, datapath::frontend_of(service.frontend))] = service.pass_until_ns;
    }
    const auto seen = datapath::read_service_counts(maps, id);
    counts.push_back({id, seen.refused, seen.refused_no_backend});
  }
  const auto label = [&](std::uint32_t id) {
    const auto service = maps.read<mesh_service>(datapath::Table::kServices, id);
    return service_label(round.reconciled->routing, datapath::frontend_of(service.frontend));
  };
  for (auto& event : refusals_.look(counts, label, round.now)) journal_.note(std::move(event));
  for (auto& event : pauses_.look(pauses, round.now)) journal_.note(std::move(event));
}

}  // namespace mesh::app
