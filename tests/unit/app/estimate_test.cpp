// SPDX-License-Identifier: Apache-2.0
#include "app/estimate.hpp"

#include <gtest/gtest.h>

#include "balance/table.hpp"

namespace mesh::app {
namespace {

/// The slots that services of equal endpoints really take, with room for one update of everything.
std::uint64_t real_slots(model::Algorithm algorithm, std::uint64_t services, std::size_t endpoints,
                         std::uint16_t odd_weight = 1) {
  auto service = std::make_shared<model::Service>();
  service->algorithm = algorithm;
  model::ServiceRoute route;
  route.service = service;
  route.routes.resize(endpoints, {.weight = 1});
  route.routes.front().weight = odd_weight;
  return 2 * services * balance::table_entries(route) * balance::slots_per_entry(algorithm);
}

std::uint64_t slots_of(const api::EstimateView& view) {
  for (const auto& table : view.tables) {
    if (table.table == "slots") return table.needed.value_or(0);
  }
  return 0;
}

TEST(Estimate, says_the_slots_that_the_balancer_takes) {
  for (const auto algorithm :
       {model::Algorithm::kWeightedRandom, model::Algorithm::kRoundRobin, model::Algorithm::kMaglev,
        model::Algorithm::kSourceHash, model::Algorithm::kLeastConnections, model::Algorithm::kLatency}) {
    for (const std::size_t endpoints : {1, 10, 5000}) {
      const auto view = estimate_tables(7, endpoints, std::string(model::to_string(algorithm)), {});
      ASSERT_TRUE(view) << view.error().to_string();
      EXPECT_EQ(slots_of(*view), real_slots(algorithm, 7, endpoints)) << view->balance << " " << endpoints;
    }
  }
}

TEST(Estimate, says_what_unequal_weights_may_need_where_they_matter) {
  const auto view = estimate_tables(7, 10, "round_robin", {});
  ASSERT_TRUE(view);
  const std::uint64_t most = real_slots(model::Algorithm::kRoundRobin, 7, 10, 65535);
  EXPECT_NE(view->note.find("up to " + std::to_string(most) + " "), std::string::npos) << view->note;
  EXPECT_EQ(estimate_tables(7, 10, "maglev", {})->note, "");
}

TEST(Estimate, is_refused_beyond_what_the_limits_of_the_configuration_allow) {
  EXPECT_TRUE(estimate_tables(10'000, 100, "weighted_random", {}));
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> absurd = {
      {10, ~std::uint64_t{2}}, {~std::uint64_t{0}, 1}, {std::uint64_t{1} << 25, 4}};
  for (const auto& [services, endpoints] : absurd) {
    const auto view = estimate_tables(services, endpoints, "weighted_random", {});
    ASSERT_FALSE(view) << services;
    EXPECT_EQ(view.error().kind, base::ErrorKind::kInvalid);
    EXPECT_NE(view.error().remedy.find("at most 67108864"), std::string::npos) << view.error().to_string();
  }
}

TEST(Estimate, what_services_and_endpoints_decide_is_a_number_and_the_rest_is_none) {
  const auto view = estimate_tables(7, 10, "round_robin", {});
  ASSERT_TRUE(view);
  for (const auto& table : view->tables) {
    const bool decided = table.setting == "agent.limits.services" || table.setting == "agent.limits.backends" ||
                         table.table == "ranges" || table.table == "slots";
    EXPECT_EQ(table.needed.has_value(), decided) << table.table;
    EXPECT_NE(table.needed, 0) << table.table;
    EXPECT_LE(table.needed.value_or(0), table.size) << table.table;
  }
}

TEST(Estimate, an_unknown_algorithm_is_an_error_that_names_the_known) {
  const auto view = estimate_tables(1, 1, "fair", {});
  ASSERT_FALSE(view);
  EXPECT_NE(view.error().remedy.find("round_robin"), std::string::npos);
}

}  // namespace
}  // namespace mesh::app
