// SPDX-License-Identifier: Apache-2.0
#include "relay/target.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace mesh::relay {
namespace {

model::ServiceRoutePtr make_route(model::Algorithm algorithm, std::vector<std::uint16_t> weights) {
  auto service = std::make_shared<model::Service>();
  service->algorithm = algorithm;
  auto route = std::make_shared<model::ServiceRoute>();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    service->endpoints.push_back({.address = *base::SocketAddress::parse("10.0.0." + std::to_string(i + 1) + ":80")});
    route->routes.push_back({static_cast<std::uint32_t>(i), weights[i]});
  }
  route->service = std::move(service);
  return route;
}

EndpointLoads loads;

std::map<std::uint32_t, int> draw(const Target& target, int times, std::uint64_t key = 0) {
  base::Random random(7);
  std::map<std::uint32_t, int> drawn;
  for (int i = 0; i < times; ++i) ++drawn[target.choose(random, key, {})->route];
  return drawn;
}

TEST(Target, draws_by_weight) {
  auto drawn = draw(Target(make_route(model::Algorithm::kWeightedRandom, {1, 3}), loads, nullptr), 40'000);
  EXPECT_NEAR(drawn[0], 10'000, 500);
  drawn = draw(Target(make_route(model::Algorithm::kRoundRobin, {1, 3}), loads, nullptr), 400);
  EXPECT_EQ(drawn[0], 100);
}

TEST(Target, a_client_keeps_its_backend_where_the_algorithm_hashes) {
  const Target target(make_route(model::Algorithm::kMaglev, {1, 1, 1, 1}), loads, nullptr);
  std::map<std::uint32_t, int> backends;
  for (std::uint64_t key = 0; key < 1000; ++key) {
    const auto drawn = draw(target, 5, key);
    EXPECT_EQ(drawn.size(), 1U);
    ++backends[drawn.begin()->first];
  }
  EXPECT_EQ(backends.size(), 4U);
}

TEST(Target, takes_the_one_of_two_that_has_fewer_connections_and_carries_them_on) {
  auto first = std::make_shared<const Target>(make_route(model::Algorithm::kLeastConnections, {1, 1}), loads, nullptr);
  base::Random random(1);
  for (int i = 0; i < 100; ++i) first->choose(random, 0, {})->load->active.fetch_add(1);
  const Target second(make_route(model::Algorithm::kLeastConnections, {1, 1, 1}), loads, first.get());
  const auto active = [&](std::uint32_t but) {
    std::vector<std::uint32_t> tried;
    for (std::uint32_t i = 0; i < 3; ++i) {
      if (i != but) tried.push_back(i);
    }
    return second.choose(random, 0, tried)->load->active.load();
  };
  loads.prune();
  EXPECT_NEAR(active(0), 50, 12);
  EXPECT_EQ(active(0) + active(1), 100U);
  EXPECT_EQ(active(2), 0U);
}

TEST(Target, never_gives_one_that_was_tried) {
  const Target target(make_route(model::Algorithm::kWeightedRandom, {1, 1, 1}), loads, nullptr);
  base::Random random(1);
  std::vector<std::uint32_t> tried;
  for (int i = 0; i < 3; ++i) {
    const auto choice = target.choose(random, 0, tried);
    ASSERT_TRUE(choice);
    EXPECT_EQ(std::ranges::find(tried, choice->route), tried.end());
    tried.push_back(choice->route);
  }
  EXPECT_FALSE(target.choose(random, 0, tried));
  EXPECT_FALSE(Target(make_route(model::Algorithm::kMaglev, {}), loads, nullptr).choose(random, 0, {}));
}

}  // namespace
}  // namespace mesh::relay
