// SPDX-License-Identifier: Apache-2.0
// Balancing without sockets: clients, nodes and backends in simulated time, choosing with the very tables and the very
// comparison that the kernel programs have (balance/weighted.hpp, bpf/include/mesh_load.h, mesh_latency.h). The same
// seed gives the same run.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "model/service.hpp"

namespace mesh::support {

struct SimulatedBackend {
  enum class Does : std::uint8_t {
    kServe,
    kRefuse,    ///< At once.
    kBlackHole  ///< The client gives up after Scenario::connect_timeout_ms.
  };
  double service_ms = 1;  ///< Mean of an exponential distribution.
  unsigned workers = 1;   ///< Connections served at a time; the others wait in order.
  std::uint16_t weight = 1;
  Does does = Does::kServe;
  double until_ms = std::numeric_limits<double>::infinity();  ///< From then on it serves.
};

/// One connection carries one request: connect, request, answer, close.
struct Scenario {
  std::string name;
  std::string what;  ///< In words.
  std::vector<SimulatedBackend> backends;
  unsigned nodes = 1;           ///< Each knows its own connections only.
  double arrivals_per_ms = 0;   ///< Poisson, over all nodes: an open loop. 0: a closed one.
  unsigned clients = 0;         ///< Of the closed loop: each connects again as soon as it has its answer.
  double duration_ms = 30'000;  ///< Simulated.
  double warm_up_ms = 5'000;    ///< Of it: not counted.
  double connect_timeout_ms = 1'000;
};

struct SimulationResult {
  std::uint64_t requests = 0;  ///< Answered or failed, after the warm-up.
  std::uint64_t failed = 0;
  double p50_ms = 0;  ///< Of those that were answered, from connect to close.
  double p99_ms = 0;
  std::vector<double> shares;  ///< Of requests, by backend.
  /// The largest change of a backend's open connections from one tenth of a second to the next (means over it),
  /// relative to its mean over the run; of backends that have at least one on average.
  double swing = 0;

  [[nodiscard]] double failed_share() const {
    return requests == 0 ? 0 : static_cast<double>(failed) / static_cast<double>(requests);
  }
};

/// Algorithms: weighted_random, least_connections, latency.
SimulationResult simulate(const Scenario& scenario, model::Algorithm algorithm, std::uint64_t seed);

/// What balancing must cope with, by name.
const std::vector<Scenario>& scenarios();
const Scenario& scenario(const std::string& name);

/// All scenarios and algorithms as a table.
std::string simulation_report(std::uint64_t seed);

}  // namespace mesh::support
