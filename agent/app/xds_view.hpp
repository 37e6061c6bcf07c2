// SPDX-License-Identifier: Apache-2.0
// Where new connections go, as clients of xDS are told it. Pure.
//
// One resource per TCP port of a name, of both families. HEALTHY is who gets new connections of this node, or would if
// nearer ones were not enough; DRAINING who is leaving or has no weight; UNHEALTHY who is down by its probe, ejected or
// not yet checked. Tiers, and within them the nearness that a service prefers, are priorities without gaps; zones are
// localities, which weigh what their healthy endpoints do.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/routing.hpp"
#include "xds/world.hpp"

namespace mesh::app {

class XdsView {
 public:
  XdsView(model::Place here, std::string domain);

  /// The same as last time if nothing in it changed.
  xds::WorldPtr look(const model::RoutingTable& table);

 private:
  using Routes = std::vector<model::ServiceRoutePtr>;
  [[nodiscard]] xds::ServedPtr serve(const std::string& name, const Routes& routes) const;

  const model::Place here_;
  xds::WorldPtr world_;
  std::map<std::string, Routes> made_of_;
};

}  // namespace mesh::app
