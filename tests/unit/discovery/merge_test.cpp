// SPDX-License-Identifier: Apache-2.0
#include "discovery/merge.hpp"

#include <gtest/gtest.h>

#include <map>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

model::ServicePtr service(std::uint8_t host, const char* name = "s") {
  model::Service service;
  service.name = name;
  service.frontend.address.ip = *base::IpAddress::parse("240.64.0." + std::to_string(host));
  service.frontend.address.port = 80;
  service.origin = "here:1";
  return std::make_shared<const model::Service>(std::move(service));
}

UpdatePtr update(std::vector<model::ServicePtr> services, const char* source) {
  auto update = std::make_shared<model::Update>();
  update->services = std::move(services);
  update->status.name = source;
  return update;
}

TEST(Merge, services_come_out_sorted_with_their_pointers) {
  const auto one = service(1);
  const auto two = service(2);
  const auto three = service(3);
  const std::vector<Ranked> updates = {{update({three, one}, "a")}, {}, {update({two}, "b")}};
  const auto snapshot = Merger().merge(updates, 7);
  EXPECT_EQ(snapshot->generation, 7u);
  EXPECT_EQ(snapshot->services, (std::vector{one, two, three}));
  EXPECT_TRUE(snapshot->conflicts.empty());
  ASSERT_EQ(snapshot->sources.size(), 2u);
  EXPECT_EQ(snapshot->sources[1].name, "b");
}

TEST(Merge, the_first_in_precedence_wins_and_the_other_is_listed) {
  const auto winner = service(1, "winner");
  const auto twin = service(1, "twin");
  const auto loser = service(1, "loser");
  const std::vector<Ranked> updates = {{update({winner, twin}, "a")}, {update({loser}, "b")}};
  const auto snapshot = Merger().merge(updates, 1);
  EXPECT_EQ(snapshot->services, std::vector{winner});
  ASSERT_EQ(snapshot->conflicts.size(), 2u);
  EXPECT_EQ(snapshot->conflicts[0].winner, "winner (here:1)");
  EXPECT_EQ(snapshot->conflicts[0].loser, "twin (here:1)");
  EXPECT_EQ(snapshot->conflicts[1].loser, "loser (here:1)");
}

TEST(Merge, no_more_conflicts_are_listed_than_the_limit_and_their_number) {
  std::vector<model::ServicePtr> same(kMaxConflicts + 5, service(1));
  const std::vector<Ranked> updates = {{update(std::move(same), "a")}};
  const auto snapshot = Merger().merge(updates, 1);
  ASSERT_EQ(snapshot->conflicts.size(), kMaxConflicts + 1);
  EXPECT_EQ(snapshot->conflicts.back().loser, "4 more services");
}

TEST(Merge, equals_a_map_that_is_filled_in_order_of_precedence) {
  const std::uint64_t seed = 20261120;
  RecordProperty("seed", std::to_string(seed));
  base::Random random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Ranked> updates;
    std::map<model::Frontend, model::ServicePtr> expected;
    for (std::uint64_t source = random.below(4); source-- > 0;) {
      std::vector<model::ServicePtr> services;
      for (std::uint64_t count = random.below(20); count-- > 0;) {
        services.push_back(service(static_cast<std::uint8_t>(random.below(30))));
        expected.emplace(services.back()->frontend, services.back());
      }
      updates.push_back({update(std::move(services), "x")});
    }
    const auto snapshot = Merger().merge(updates, 1);
    std::vector<model::ServicePtr> wanted;
    for (const auto& [frontend, pointer] : expected) wanted.push_back(pointer);
    ASSERT_EQ(snapshot->services, wanted) << "seed " << seed << " round " << round;
  }
}

model::ServicePtr from(const char* source, std::vector<const char*> endpoints, std::uint8_t tier = 0) {
  model::Service service;
  service.name = "orders";
  service.frontend.address = *base::SocketAddress::parse("240.64.0.1:80");
  service.source = source;
  service.origin = std::string(source) + ":1";
  for (const char* address : endpoints) {
    service.endpoints.push_back({.address = *base::SocketAddress::parse(address), .tier = tier});
  }
  return std::make_shared<const model::Service>(std::move(service));
}

TEST(Merge, a_later_source_adds_endpoints_where_it_says_union) {
  const std::vector<Ranked> updates = {
      {update({from("file", {"10.0.0.1:80", "10.0.0.3:80"})}, "file")},
      {update({from("prod", {"10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"})}, "prod"), model::Combine::kUnion}};
  const auto snapshot = Merger().merge(updates, 1);
  ASSERT_EQ(snapshot->services.size(), 1u);
  const model::Service& service = *snapshot->services[0];
  EXPECT_TRUE(snapshot->conflicts.empty());
  EXPECT_EQ(service.source, "file+prod");
  ASSERT_EQ(service.parts.size(), 2u);
  EXPECT_EQ(service.parts[1].origin, "prod:1");
  std::string said;
  for (const auto& endpoint : service.endpoints) {
    said += endpoint.address.to_string() + "=" + service.parts[endpoint.part].source + "/" +
            std::to_string(endpoint.tier) + " ";
  }
  EXPECT_EQ(said, "10.0.0.1:80=file/0 10.0.0.2:80=prod/0 10.0.0.3:80=file/0 10.0.0.4:80=prod/0 ");
}

TEST(Merge, failover_puts_a_later_source_behind_all_tiers_of_the_earlier_ones) {
  const std::vector<Ranked> updates = {{update({from("a", {"10.0.0.1:80"}, 2)}, "a")},
                                       {update({from("b", {"10.0.0.2:80"}, 1)}, "b"), model::Combine::kFailover},
                                       {update({from("c", {"10.0.0.3:80"})}, "c"), model::Combine::kFailover}};
  const auto snapshot = Merger().merge(updates, 1);
  std::vector<int> tiers;
  for (const auto& endpoint : snapshot->services[0]->endpoints) tiers.push_back(endpoint.tier);
  EXPECT_EQ(tiers, (std::vector{2, 4, 5}));
}

TEST(Merge, what_was_put_together_keeps_its_pointer_while_its_parts_do) {
  Merger merger;
  const auto first = from("a", {"10.0.0.1:80"});
  const auto second = from("b", {"10.0.0.2:80"});
  const std::vector<Ranked> updates = {{update({first}, "a")}, {update({second}, "b"), model::Combine::kUnion}};
  const auto before = merger.merge(updates, 1)->services[0];
  EXPECT_EQ(merger.merge(updates, 2)->services[0], before);
  const std::vector<Ranked> failover = {updates[0], {updates[1].update, model::Combine::kFailover}};
  EXPECT_NE(merger.merge(failover, 3)->services[0], before);
  const std::vector<Ranked> alone = {updates[0]};
  EXPECT_EQ(merger.merge(alone, 4)->services[0], first);
}

}  // namespace
}  // namespace mesh::discovery
