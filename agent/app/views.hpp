// SPDX-License-Identifier: Apache-2.0
// From what the agent and the kernel hold to what people are shown: pure functions from state to wire types.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/services.hpp"
#include "api/status.hpp"
#include "base/clock.hpp"
#include "datapath/inspect.hpp"
#include "model/routing.hpp"
#include "model/snapshot.hpp"

namespace mesh::app {

/// By name.
using SourceStatuses = std::map<std::string, model::SourceStatus, std::less<>>;

/// What one service's view is made of. References stay valid for the call.
struct ServiceFacts {
  const model::ServiceRoute& route;
  std::uint32_t service_id = 0;           ///< 0: not in the kernel (yet).
  const datapath::ServiceTables& tables;  ///< As the kernel has them.
  const std::vector<datapath::BackendIndex::Entry>& backends;
  model::ServiceHealthPtr health;   ///< Fresher than route.health; may be null.
  std::uint64_t pass_until_ns = 0;  ///< CLOCK_MONOTONIC
  api::ServiceCounters counters;
  std::function<std::uint64_t(std::uint32_t backend_id)> picks;
  const SourceStatuses* sources = nullptr;  ///< Null: not known.
};

api::ServiceView service_view(const ServiceFacts& facts, base::WallTime now);
std::vector<api::EndpointView> endpoint_views(const ServiceFacts& facts, base::WallTime now);
std::vector<api::RefusalView> refusal_views(const model::Refusals& refusals);
api::SourceView source_view(const model::SourceStatus& source, base::WallTime now);
std::vector<api::ConflictView> conflict_views(const model::Snapshot& snapshot);

/// Who says that there is this service: one, or several together.
std::vector<model::ServicePart> parts_of(const model::Service& service);

/// "http /healthz every 5s", "" for none.
std::string describe_probe(const model::ProbePolicy* probe);

/// A deadline on CLOCK_MONOTONIC as a wall clock text; "" if it is 0 or over, "forever" for MESH_FOREVER.
std::string describe_pause(std::uint64_t pass_until_ns, base::WallTime now);

/// "3 differences repaired since start, the last 12 s ago: ..."
std::string describe_drift(const api::DriftView& drift);

/// What of a status makes the agent degraded, worst first, and what is worth a notice. Pure; the one place that
/// decides.
std::vector<api::Condition> conditions_of(const api::Status& status);
/// The one of them that is about paused services; also true while no agent runs.
std::optional<api::Condition> paused_condition(const api::Status& status);

}  // namespace mesh::app
