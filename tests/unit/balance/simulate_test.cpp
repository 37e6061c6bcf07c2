// SPDX-License-Identifier: Apache-2.0
// What least_connections and latency are for, as properties of a simulation that chooses with the kernel's own
// comparison. Fixed seeds: `scripts/verify simulate --seed N` shows the numbers behind, and others.
#include <gtest/gtest.h>

#include "tests/support/balance_simulator.hpp"

namespace mesh::balance {
namespace {

using model::Algorithm;
using support::SimulationResult;

constexpr std::size_t kOddOne = 3;  // of the scenarios in which one backend is unlike the others

class Simulate : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static SimulationResult run(const char* scenario, Algorithm algorithm) {
    return support::simulate(support::scenario(scenario), algorithm, GetParam());
  }
};

TEST_P(Simulate, one_slow_backend_of_ten_does_not_make_the_tail) {
  const double random = run("one-slow", Algorithm::kWeightedRandom).p99_ms;
  EXPECT_LT(5 * run("one-slow", Algorithm::kLatency).p99_ms, random);
  EXPECT_LT(5 * run("one-slow", Algorithm::kLeastConnections).p99_ms, random);
}

TEST_P(Simulate, without_load_only_latency_tells_the_slow_one) {
  const double random = run("one-slow-idle", Algorithm::kWeightedRandom).p99_ms;
  const SimulationResult latency = run("one-slow-idle", Algorithm::kLatency);
  EXPECT_LT(3 * latency.p99_ms, random);
  EXPECT_LT(latency.shares[kOddOne], 0.01);
  EXPECT_GT(latency.shares[kOddOne], 0.0) << "it is tried again, now and then";
}

TEST_P(Simulate, four_slow_of_thirty_two_hold_at_ninety_percent_load) {
  for (const char* scenario : {"four-slow", "four-slow-nodes"}) {
    const double random = run(scenario, Algorithm::kWeightedRandom).p99_ms;
    EXPECT_LT(run(scenario, Algorithm::kLatency).p99_ms, 100) << scenario << ": ten times the mean of a fast one";
    EXPECT_LT(5 * run(scenario, Algorithm::kLeastConnections).p99_ms, random) << scenario;
  }
}

TEST_P(Simulate, backends_that_are_alike_get_alike) {
  for (const Algorithm algorithm : {Algorithm::kLeastConnections, Algorithm::kLatency}) {
    const SimulationResult result = run("alike", algorithm);
    for (const double share : result.shares) EXPECT_NEAR(share * 32, 1, 0.1);
    EXPECT_LT(result.p99_ms, run("alike", Algorithm::kWeightedRandom).p99_ms);
  }
}

TEST_P(Simulate, weights_hold) {
  for (const Algorithm algorithm : {Algorithm::kLeastConnections, Algorithm::kLatency}) {
    const SimulationResult result = run("weights", algorithm);
    for (std::size_t i = 0; i < 10; ++i) EXPECT_NEAR(result.shares[i] * 20, i < 5 ? 1 : 3, i < 5 ? 0.25 : 0.3);
  }
}

TEST_P(Simulate, who_fails_fast_or_never_answers_attracts_nothing) {
  for (const char* scenario : {"one-refuses", "one-black-hole"}) {
    EXPECT_GT(run(scenario, Algorithm::kWeightedRandom).failed_share(), 0.08) << scenario;
    EXPECT_LT(run(scenario, Algorithm::kLeastConnections).failed_share(), 0.005) << scenario;
    EXPECT_LT(run(scenario, Algorithm::kLatency).failed_share(), 0.005) << scenario;
  }
}

TEST_P(Simulate, who_is_back_has_its_share_again) {
  EXPECT_GT(run("one-back", Algorithm::kLeastConnections).shares[kOddOne], 0.08);
  EXPECT_GT(run("one-back", Algorithm::kLatency).shares[kOddOne], 0.08);
}

TEST_P(Simulate, two_hundred_clients_do_not_oscillate) {
  for (const Algorithm algorithm : {Algorithm::kLeastConnections, Algorithm::kLatency}) {
    const SimulationResult one_node = run("clients", algorithm);
    EXPECT_LT(one_node.swing, 0.75) << "open connections of a backend from one tenth of a second to the next";
    // As many nodes as clients: nobody sees more than its own connection, and there is no herd either.
    EXPECT_LT(run("clients-nodes", algorithm).swing, 2 * run("clients-nodes", Algorithm::kWeightedRandom).swing);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Simulate, ::testing::Values(1, 2, 3),
                         [](const auto& info) { return "seed_" + std::to_string(info.param); });

}  // namespace
}  // namespace mesh::balance
