// SPDX-License-Identifier: Apache-2.0
// The kernel tables as rows, for `meshctl bpf dump|stats` and for `meshd dump` with the agent dead.
#pragma once

#include <string>
#include <vector>

#include "api/bpf.hpp"
#include "api/status.hpp"
#include "app/config.hpp"
#include "base/error.hpp"
#include "datapath/hooks.hpp"
#include "datapath/maps.hpp"
#include "model/routing.hpp"

namespace mesh::app {

/// Rows of one table, or of all but owners; `request.limit` per table. kNotFound for an unknown table's name.
base::Result<api::BpfDump> dump_tables(const datapath::MapSet& maps, const std::string& directory,
                                       const api::DumpRequest& request);

/// Run counts of the attached programs and the reasons; `maps` is left to the caller.
base::Result<api::BpfStats> read_bpf_stats(const datapath::MapSet& maps,
                                           const std::vector<datapath::HookStatus>& hooks);

/// The services that are paused now, as the kernel tables say. Without `routing` they are called by their address.
std::vector<api::PausedService> paused_services(const datapath::MapSet& maps, const model::RoutingTablePtr& routing,
                                                base::WallTime now);

api::HookView hook_view(const datapath::HookStatus& hook);

/// The status of a mesh whose agent is dead: what the pins alone say. `state` is "agent_down".
api::Status status_from_pins(const datapath::MapSet& maps, const AgentSettings& settings);

}  // namespace mesh::app
