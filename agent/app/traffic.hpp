// SPDX-License-Identifier: Apache-2.0
// The counters of services and their backends, for `meshctl top` and `stat`.
#pragma once

#include "api/traffic.hpp"
#include "app/service_metrics.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/loader.hpp"
#include "model/routing.hpp"
#include "observe/flows.hpp"

namespace mesh::app {

/// Services that had connections, those with the most first; their totals as of the last look of `totals`. Blocks for a
/// pass over the tables.
base::Result<api::TrafficList> list_traffic(datapath::Datapath& datapath, const model::RoutingTablePtr& routing,
                                            const ServiceMetricsReader& totals, const observe::FlowLog& log,
                                            const api::TrafficRequest& request, base::TimePoint now);

}  // namespace mesh::app
