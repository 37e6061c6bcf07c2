// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using xds::Health;
using xds::LbEndpoint;
using xds::Locality;

LbEndpoint at(const std::string& address, std::optional<std::uint32_t> weight = std::nullopt,
              Health health = Health::kUnknown) {
  return {.address = address, .port = 80, .health = health, .weight = weight};
}
Locality in(std::vector<LbEndpoint> endpoints, std::optional<std::uint32_t> weight = std::nullopt,
            std::uint32_t priority = 0) {
  return {.region = {}, .zone = {}, .weight = weight, .priority = priority, .endpoints = std::move(endpoints)};
}

/// "10.0.0.1 w1 t0" each, or the error.
std::vector<std::string> instances(const std::vector<Locality>& localities) {
  const auto read = xds_instances({.name = "orders", .localities = localities});
  if (!read) return {read.error().message};
  std::vector<std::string> texts;
  for (const Instance& one : *read) {
    texts.push_back(one.address + " w" + std::to_string(one.weight) + " t" + std::to_string(one.tier) +
                    (one.draining ? " draining" : ""));
  }
  return texts;
}

TEST(XdsModel, without_weights_all_are_equal_and_weights_of_endpoints_stand_as_they_are) {
  EXPECT_THAT(instances({in({at("10.0.0.1"), at("10.0.0.2")}), in({at("10.0.0.3", 7)})}),
              ElementsAre("10.0.0.1 w1 t0", "10.0.0.2 w1 t0", "10.0.0.3 w7 t0"));
}

TEST(XdsModel, the_weight_of_a_locality_is_shared_by_its_endpoints) {
  EXPECT_THAT(instances({in({at("10.0.0.1"), at("10.0.0.2")}, 2), in({at("10.0.0.3")}, 3)}),
              ElementsAre("10.0.0.1 w1 t0", "10.0.0.2 w1 t0", "10.0.0.3 w3 t0"));
  EXPECT_THAT(instances({in({at("10.0.0.1", 3), at("10.0.0.2", 1)}, 1), in({at("10.0.0.3")}, 1)}),
              ElementsAre("10.0.0.1 w3 t0", "10.0.0.2 w1 t0", "10.0.0.3 w4 t0"));
  EXPECT_THAT(instances({in({at("10.0.0.1")}, 2'000'000'000), in({at("10.0.0.3")}, 1'000'000'000)}),
              ElementsAre("10.0.0.1 w2 t0", "10.0.0.3 w1 t0"));
}

TEST(XdsModel, a_small_share_is_never_none) {
  EXPECT_THAT(instances({in({at("10.0.0.1")}, 4'000'000'000), in({at("10.0.0.2")}, 1)}),
              ElementsAre("10.0.0.1 w10000 t0", "10.0.0.2 w1 t0"));
}

TEST(XdsModel, a_locality_without_weight_beside_one_with_weight_gets_nothing) {
  EXPECT_THAT(instances({in({at("10.0.0.1")}, 1), in({at("10.0.0.2")})}),
              ElementsAre("10.0.0.1 w1 t0", "10.0.0.2 w0 t0"));
}

TEST(XdsModel, health_says_who_gets_traffic) {
  EXPECT_THAT(instances({in({at("10.0.0.1", {}, Health::kHealthy), at("10.0.0.2", {}, Health::kUnhealthy),
                             at("10.0.0.3", {}, Health::kTimeout), at("10.0.0.4", {}, Health::kDraining)})}),
              ElementsAre("10.0.0.1 w1 t0", "10.0.0.2 w0 t0", "10.0.0.3 w0 t0", "10.0.0.4 w1 t0 draining"));
}

TEST(XdsModel, priorities_are_tiers_and_degraded_endpoints_come_after_the_others_of_theirs) {
  EXPECT_THAT(
      instances({in({at("10.0.1.1")}, 1, 1), in({at("10.0.0.1"), at("10.0.0.2", {}, Health::kDegraded)}, 1, 0)}),
      ElementsAre("10.0.0.1 w1 t0", "10.0.0.2 w1 t1", "10.0.1.1 w1 t2"));
}

TEST(XdsModel, what_is_wrong_is_named) {
  EXPECT_THAT(instances({in({at("10.0.0.1")}, 1, 1)}), ElementsAre("there is a priority 1, but no 0"));
  EXPECT_THAT(instances({in({}, 1, 128)}), ElementsAre("priority 128 is above 127"));
  EXPECT_THAT(instances({in({at("db.example.com")})}),
              ElementsAre("'db.example.com' is not the IP address of an endpoint"));
  EXPECT_THAT(instances({in({at("")})}), ElementsAre("an endpoint has no socket address"));
  EXPECT_THAT(instances({in({at("0.0.0.0")})}), ElementsAre(HasSubstr("is not the IP address")));
  EXPECT_THAT(instances({in({at("10.0.0.1", 0)})}), ElementsAre("endpoint 10.0.0.1 has load_balancing_weight 0"));
  LbEndpoint no_port = at("10.0.0.1");
  no_port.port = 70'000;
  EXPECT_THAT(instances({in({no_port})}), ElementsAre("endpoint 10.0.0.1 has the port 70000"));
  EXPECT_THAT(instances({in({}, 4'000'000'000), in({}, 4'000'000'000)}),
              ElementsAre(HasSubstr("add up to 8000000000")));
  EXPECT_THAT(instances({in({at("10.0.0.1", 4'000'000'000), at("10.0.0.2", 4'000'000'000)})}),
              ElementsAre(HasSubstr("add up to 8000000000")));
}

TEST(XdsModel, names_of_clusters) {
  const auto text = [](std::string_view cluster) {
    const XdsName name = xds_name(cluster);
    return name.name + ":" + std::to_string(name.port);
  };
  EXPECT_EQ(text("Orders"), "orders:0");
  EXPECT_EQ(text("outbound|80||orders.shop.svc.cluster.local"), "orders.shop.svc.cluster.local:80");
  EXPECT_EQ(text("outbound|8080|v1|orders"), "orders/v1:8080");
  EXPECT_EQ(text("outbound|99999||orders"), "orders:0");
  EXPECT_EQ(text("a|b|c"), ":0");
  EXPECT_EQ(text("a|b|c|d|e"), ":0");
  EXPECT_EQ(text(""), ":0");
}

TEST(XdsModel, the_first_rule_that_matches_counts) {
  const std::vector<XdsRule> rules = {{.match = "outbound|*"}, {.match = "orders", .port = 80}, {.match = "all"}};
  EXPECT_EQ(find_xds_rule(rules, "outbound|80||x")->match, "outbound|*");
  EXPECT_EQ(find_xds_rule(rules, "orders")->port, 80);
  EXPECT_EQ(find_xds_rule(rules, "Orders")->match, "all");
  EXPECT_EQ(find_xds_rule({}, "orders"), nullptr);
}

}  // namespace
}  // namespace mesh::discovery
