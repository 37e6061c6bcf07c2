// SPDX-License-Identifier: Apache-2.0
// `meshd relay`: the process that has the private keys and terminates TLS. This thread talks to the agent, opens
// listening sockets, reads certificates and counts; the workers relay. Nothing of it needs the agent to be there: it
// goes on with the orders it had last, and starts with those on disk when there is no agent.
//
// A relay that starts while another serves gets that one's listening sockets from the agent and accepts beside it; when
// it reports that it serves, the other is told to retire: it accepts no more, and ends with its last connection.
#pragma once

#include <chrono>
#include <string>

#include "app/lifecycle.hpp"
#include "base/error.hpp"
#include "io/loop.hpp"

namespace mesh::app {

struct RelayOptions {
  std::string socket = "/run/meshd/relay.sock";    ///< Where the agent listens.
  std::string state_dir = "/var/lib/meshd/relay";  ///< The last orders, for a start without an agent.
  io::LoopKind loop = io::LoopKind::kAutomatic;    ///< Of the workers.
};

/// Serves until SIGTERM or SIGINT, or until it has retired.
base::Result<void> run_relay(const RelayOptions& options, Signals& signals);

}  // namespace mesh::app
