// SPDX-License-Identifier: Apache-2.0
// What this node holds against an endpoint, or for it, besides its source and its probe: drained by an operator,
// ejected for what connections to it experienced, on probation, starting slowly. Immutable per service, as health is;
// an endpoint of which there is nothing to say has no entry, and a service without entries is not in the view.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "model/health_view.hpp"

namespace mesh::model {

enum class Ejection : std::uint8_t {
  kNone,
  kEjected,    ///< No new connections until `until`.
  kProbation,  ///< Back, with `share_percent` of its connections.
};
std::string_view to_string(Ejection value);  // "probation"

struct EndpointStanding {
  base::SocketAddress address;
  bool drained = false;  ///< By an operator: no new connections.
  Ejection ejection = Ejection::kNone;
  bool refuses = false;          ///< It was ejected for refusing: a closed port is not used even in panic.
  unsigned ejections = 0;        ///< In a row.
  unsigned share_percent = 100;  ///< 1 to 100, of its weight: on probation, or while it starts slowly.
  base::WallTime since{};        ///< Of the latest change.
  base::WallTime until{};        ///< Of an ejection; zero: none.
  std::string reason;            ///< "5 connects failed in a row (refused)"; of the drain: who asked for it.

  bool operator==(const EndpointStanding&) const = default;
};

struct ServiceStanding {
  Frontend frontend;
  std::vector<EndpointStanding> endpoints;  ///< Sorted by address. Look up by address: the service may be newer.

  [[nodiscard]] const EndpointStanding* find(const base::SocketAddress& address) const;
};

using ServiceStandingPtr = std::shared_ptr<const ServiceStanding>;
using StandingView = std::unordered_map<Frontend, ServiceStandingPtr, FrontendHash>;
/// Null: nothing is to be said of the service any more.
using StandingChanges = std::vector<std::pair<Frontend, ServiceStandingPtr>>;

}  // namespace mesh::model
