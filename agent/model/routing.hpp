// SPDX-License-Identifier: Apache-2.0
// Where new connections of each service shall go: a Snapshot seen through a HealthView and the policy.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "model/health_view.hpp"
#include "model/service.hpp"
#include "model/standing.hpp"

namespace mesh::model {

/// Why an endpoint gets new connections or not. Order of precedence: draining, weight, ejection, confirmation, probe.
enum class Eligibility : std::uint8_t {
  kEligible,
  kPanic,     ///< Ejected or down by its probe, but used because too few are up.
  kDraining,  ///< Its source or an operator says so.
  kWeightZero,
  kEjected,  ///< For what connections to it experienced.
  kProbeDown,
  kAwaitingCheck,  ///< require_initial_check, and no success yet.
  kFar,            ///< It could, but nearer ones, or those of an earlier tier, are enough.
  kUnconfirmed,    ///< Its source is stale for longer than max_stale, and no probe of it succeeds.
};
std::string_view to_string(Eligibility value);
/// Whether it gets new connections, or would if nearer ones were not enough.
[[nodiscard]] bool serves(Eligibility value);

/// Of its weight, at the beginning of a slow start.
inline constexpr unsigned kStartPercent = 10;

struct Route {
  std::uint32_t endpoint = 0;  ///< Index into service->endpoints.
  std::uint16_t weight = 1;    ///< 1 to 65535.
  bool operator==(const Route&) const = default;
};

struct ServiceRoute {
  ServicePtr service;
  ServiceHealthPtr health;               ///< What the decision was taken on; null: not probed.
  ServiceStandingPtr standing;           ///< As well; null: nothing is to be said.
  std::vector<Route> routes;             ///< In endpoint order. Empty: connects are refused.
  std::vector<Eligibility> eligibility;  ///< Parallel to service->endpoints.
  /// Endpoints that begin a slow start and of which the standing does not tell yet: they have kStartPercent. Sorted.
  std::vector<base::SocketAddress> beginning;
  bool panic = false;
};

using ServiceRoutePtr = std::shared_ptr<const ServiceRoute>;

struct RoutingTable {
  std::uint64_t generation = 0;
  std::vector<ServiceRoutePtr> services;  ///< Sorted by frontend; an unchanged route keeps its pointer.
};

using RoutingTablePtr = std::shared_ptr<const RoutingTable>;

}  // namespace mesh::model
