// SPDX-License-Identifier: Apache-2.0
// Which endpoints get new connections: Snapshot x HealthView x StandingView x policy -> RoutingTable.
//
// Per endpoint, first match wins: draining (by its source or an operator), weight 0, ejected, unconfirmed (its source
// is stale for too long and no probe succeeds), awaiting its first check, down by its probe, else eligible. An endpoint
// without a verdict is eligible unless its service says require_initial_check.
//
// Panic: when of at least kPanicMinimum endpoints that could serve (not draining, weight above 0, already checked where
// that is required) fewer than the service's threshold are eligible, probes and ejections are presumed wrong rather
// than nearly all servers dead: endpoints that are down or ejected get connections too, at their weight, except those
// that refuse: a closed port is a fact, not an opinion. Where endpoints have tiers, one tier above the threshold is
// enough for no panic.
//
// Weight: an endpoint on probation, or that starts slowly, gets `share_percent` of its weight. So that a share of a
// small weight is something, all weights of such a service are multiplied alike first, up to 100 times. An endpoint
// that begins a slow start has its small share in the very table in which it first is, before its standing tells of it.
//
// Tiers (locality.hpp): the endpoints' own, and within each the nearness where a service prefers near endpoints. The
// weights of each are scaled to its share; one that gets nothing has no routes. Not in panic.
#pragma once

#include <cstddef>
#include <utility>

#include "model/health_view.hpp"
#include "model/routing.hpp"
#include "model/snapshot.hpp"
#include "model/standing.hpp"

namespace mesh::balance {

inline constexpr std::size_t kPanicMinimum = 5;

/// `health` may be null (not probed, or no result yet), `standing` too (nothing to say); both may be older or newer
/// than the service. `previous`: the service's route until now; null: it is new, and nobody starts slowly. Never null.
[[nodiscard]] model::ServiceRoutePtr route_service(const model::ServicePtr& service,
                                                   const model::ServiceHealthPtr& health,
                                                   const model::ServiceStandingPtr& standing,
                                                   const model::Place& here = {},
                                                   const model::ServiceRoute* previous = nullptr);

/// Routes whole snapshots and keeps the pointer of each route whose service, health and standing did not change.
class Router {
 public:
  Router() = default;
  explicit Router(model::Place here) : here_(std::move(here)) {}

  /// The same table as last time if nothing changed, else one with the next generation.
  model::RoutingTablePtr route(const model::SnapshotPtr& snapshot, const model::HealthView& health,
                               const model::StandingView& standing);

 private:
  const model::Place here_;  ///< Where this agent runs.
  model::RoutingTablePtr last_ = std::make_shared<const model::RoutingTable>();
};

}  // namespace mesh::balance
