// SPDX-License-Identifier: Apache-2.0
#include "app/estimate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "app/config_keys.hpp"
#include "balance/round_robin.hpp"
#include "balance/table.hpp"
#include "datapath/counters.hpp"
#include "model/service.hpp"

namespace mesh::app {
namespace {

// Measured by `scripts/bench scale`: settled resident memory per service and per endpoint, above an idle agent.
constexpr std::uint64_t kAgentIdleBytes = 16u << 20;
constexpr std::uint64_t kAgentServiceBytes = 1024;
constexpr std::uint64_t kAgentEndpointBytes = 128;

bool depends_on_weights(model::Algorithm algorithm) {
  return algorithm == model::Algorithm::kRoundRobin || algorithm == model::Algorithm::kSourceHash;
}

/// Slots of one table of endpoints of equal weights; balance/table.hpp has the rules.
std::uint64_t slots_per_service(model::Algorithm algorithm, std::uint64_t endpoints) {
  std::uint64_t entries = endpoints;
  if (algorithm == model::Algorithm::kMaglev) {
    entries = model::Service{}.maglev_size;
    for (const std::uint32_t size : balance::kMaglevSizes) {
      if (entries < endpoints) entries = size;
    }
  }
  return balance::slots_per_entry(algorithm) * entries;
}

std::uint32_t enough(std::uint64_t needed, std::uint32_t configured) {
  if (needed <= configured) return configured;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::bit_ceil(needed), 1u << 31));
}

}  // namespace

base::Result<api::EstimateView> estimate_tables(std::uint64_t services, std::uint64_t endpoints,
                                                const std::string& algorithm_name,
                                                const datapath::TableSizes& configured) {
  const auto algorithm = model::algorithm_from(algorithm_name);
  if (!algorithm) {
    return base::fail(base::ErrorKind::kInvalid, "estimate for '" + algorithm_name + "': no such algorithm",
                      "use weighted_random, round_robin, maglev, source_hash, least_connections or latency");
  }
  if (services > kMaxTable || endpoints > kMaxTable) {
    return base::fail(base::ErrorKind::kInvalid,
                      fmt::format("estimate for {} services of {} endpoints: out of range", services, endpoints),
                      fmt::format("agent.limits.services and agent.limits.backends are at most {}", kMaxTable));
  }
  // Ids start at 1; range 1 is shared. Updates put new ranges and slots beside the old ones.
  std::map<datapath::Table, std::uint64_t> needed;
  needed[datapath::Table::kServices] = services + 1;
  needed[datapath::Table::kRanges] = 2 * services + 2;
  needed[datapath::Table::kSlots] = 2 * services * slots_per_service(*algorithm, endpoints);
  needed[datapath::Table::kBackends] = services * endpoints + 1;
  for (const auto& [table, entries] : needed) {
    if (entries <= kMaxTable) continue;
    return base::fail(base::ErrorKind::kInvalid,
                      fmt::format("estimate for {} services of {} endpoints: {} needs {} entries", services, endpoints,
                                  datapath::to_string(table), entries),
                      fmt::format("{} is at most {}: balance with less slots, or divide the services among agents",
                                  datapath::setting_of(table), kMaxTable));
  }
  for (const auto table :
       {datapath::Table::kFrontends, datapath::Table::kServiceState, datapath::Table::kServiceLatency}) {
    needed[table] = needed[datapath::Table::kServices];
  }
  needed[datapath::Table::kServiceLive] = needed[datapath::Table::kServices] * configured.live_shards;
  for (const auto table : {datapath::Table::kBackendLive, datapath::Table::kBackendOutcomes}) {
    needed[table] = needed[datapath::Table::kBackends];
  }
  datapath::TableSizes sizes = configured;
  sizes.services = enough(needed[datapath::Table::kServices], configured.services);
  sizes.ranges = enough(needed[datapath::Table::kRanges], configured.ranges);
  sizes.slots = enough(needed[datapath::Table::kSlots], configured.slots);
  sizes.backends = enough(needed[datapath::Table::kBackends], configured.backends);

  api::EstimateView view;
  view.services = services;
  view.endpoints = endpoints;
  view.balance = algorithm_name;
  if (depends_on_weights(*algorithm)) {
    const std::uint64_t most = balance::round_robin_entries_max(endpoints);
    view.note =
        fmt::format("slots are for endpoints of equal weight; other weights need up to {} (two tables of {} each)",
                    2 * services * most, most);
  }
  for (const auto& table : datapath::estimate(sizes)) {
    view.tables.push_back({std::string(datapath::to_string(table.table)),
                           std::string(datapath::setting_of(table.table)),
                           needed.contains(table.table) ? std::optional(needed[table.table]) : std::nullopt,
                           table.entries, table.memory_bytes});
    view.kernel_bytes += table.memory_bytes;
  }
  // The agent maps the arrays it writes, and those pages count as its own.
  view.agent_bytes = kAgentIdleBytes + services * (kAgentServiceBytes + endpoints * kAgentEndpointBytes);
  return view;
}

}  // namespace mesh::app
