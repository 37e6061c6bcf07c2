// SPDX-License-Identifier: Apache-2.0
#include "app/xds_view.hpp"

#include <gtest/gtest.h>

#include "balance/route.hpp"

namespace mesh::app {
namespace {

using model::Eligibility;

model::Endpoint at(const std::string& address, std::uint16_t weight = 1, const std::string& zone = "",
                   std::uint8_t tier = 0) {
  return {.address = base::SocketAddress::parse(address).value(), .weight = weight, .zone = zone, .tier = tier};
}

model::ServiceRoutePtr route(const std::string& name, const std::string& frontend,
                             std::vector<std::pair<model::Endpoint, Eligibility>> endpoints,
                             model::Protocol protocol = model::Protocol::kTcp,
                             model::Preference prefer = model::Preference::kNone) {
  auto service = std::make_shared<model::Service>();
  service->name = name;
  service->frontend = {base::SocketAddress::parse(frontend).value(), protocol};
  service->prefer = prefer;
  auto made = std::make_shared<model::ServiceRoute>();
  for (const auto& [endpoint, eligibility] : endpoints) {
    service->endpoints.push_back(endpoint);
    made->eligibility.push_back(eligibility);
  }
  made->service = std::move(service);
  return made;
}

/// "p0 zone w3: 10.0.0.1 HEALTHY w3, ...; p1 ..."
std::string text(const xds::WorldPtr& world, const std::string& name) {
  const xds::ServedPtr served = world->find(name);
  if (!served) return "none";
  static constexpr const char* kHealth[] = {"?", "up", "down", "leaving", "?", "?"};
  std::string text;
  for (const xds::Locality& locality : served->assignment.localities) {
    text += (text.empty() ? "p" : "; p") + std::to_string(locality.priority) + " " + locality.zone + " w" +
            std::to_string(locality.weight.value()) + ":";
    for (const xds::LbEndpoint& one : locality.endpoints) {
      text += " " + one.address + " " + kHealth[static_cast<int>(one.health)] + " w" + std::to_string(*one.weight);
    }
  }
  return text;
}

class XdsViewTest : public testing::Test {
 protected:
  xds::WorldPtr look(std::vector<model::ServiceRoutePtr> routes) {
    model::RoutingTable table;
    table.services = std::move(routes);
    return view_.look(table);
  }
  XdsView view_{{.zone = "a", .node = ""}, "mesh"};
};

TEST_F(XdsViewTest, eligibility_is_health_and_a_zone_weighs_what_its_healthy_endpoints_do) {
  const auto world = look({route("orders", "240.64.0.10:80",
                                 {{at("10.0.0.1:80", 3, "a"), Eligibility::kEligible},
                                  {at("10.0.0.2:80", 2, "a"), Eligibility::kPanic},
                                  {at("10.0.0.3:80", 5, "a"), Eligibility::kProbeDown},
                                  {at("10.0.0.4:80", 1, "b"), Eligibility::kEjected},
                                  {at("10.0.0.5:80", 1, "b"), Eligibility::kDraining},
                                  {at("10.0.0.6:80", 0, "b"), Eligibility::kWeightZero}})});
  EXPECT_EQ(text(world, "orders:80"),
            "p0 a w5: 10.0.0.1 up w3 10.0.0.2 up w2 10.0.0.3 down w5; "
            "p0 b w1: 10.0.0.4 down w1 10.0.0.5 leaving w1 10.0.0.6 leaving w1");
}

TEST_F(XdsViewTest, tiers_and_preferred_nearness_are_priorities_without_gaps) {
  const auto world = look({route("orders", "240.64.0.10:80",
                                 {{at("10.0.0.1:80", 1, "b"), Eligibility::kFar},
                                  {at("10.0.0.2:80", 1, "a"), Eligibility::kEligible},
                                  {at("10.0.0.3:80", 1, "", 7), Eligibility::kFar}},
                                 model::Protocol::kTcp, model::Preference::kZone)});
  EXPECT_EQ(text(world, "orders"), "p0 a w1: 10.0.0.2 up w1; p1 b w1: 10.0.0.1 up w1; p2  w1: 10.0.0.3 up w1");
}

TEST_F(XdsViewTest, families_of_a_port_are_one_resource_and_udp_is_none) {
  const auto world =
      look({route("orders", "240.64.0.10:80", {{at("10.0.0.1:80"), Eligibility::kEligible}}),
            route("orders", "[fd6d:6573:6864::10]:80", {{at("[fd00::1]:80"), Eligibility::kEligible}}),
            route("dns", "240.64.0.11:53", {{at("10.0.0.1:53"), Eligibility::kEligible}}, model::Protocol::kUdp)});
  EXPECT_EQ(text(world, "orders"), "p0  w2: 10.0.0.1 up w1 fd00::1 up w1");
  EXPECT_EQ(text(world, "dns"), "none");
}

TEST_F(XdsViewTest, names_with_and_without_port_and_domain) {
  const auto world = look({route("orders", "240.64.0.10:80", {}), route("two", "240.64.0.11:80", {}),
                           route("two", "240.64.0.11:81", {}), route("two-more", "240.64.0.12:80", {})});
  EXPECT_TRUE(world->find("orders:80"));
  EXPECT_TRUE(world->find("orders"));
  EXPECT_TRUE(world->find("orders.mesh"));
  EXPECT_TRUE(world->find("orders.mesh:80"));
  EXPECT_TRUE(world->find("two:81"));
  EXPECT_TRUE(world->find("two-more"));
  for (const char* none : {"two", "orders:81", "order", "orders:8", "", ":80", ".mesh", "orders:"}) {
    EXPECT_FALSE(world->find(none)) << none;
  }
}

TEST_F(XdsViewTest, what_does_not_change_is_the_same_and_a_change_is_a_new_version) {
  const auto orders = route("orders", "240.64.0.10:80", {{at("10.0.0.1:80"), Eligibility::kEligible}});
  const auto first = look({orders, route("pay", "240.64.0.11:80", {})});
  EXPECT_EQ(look({orders, route("pay", "240.64.0.11:80", {})}), first) << "a route that says the same";
  const auto second = look({orders, route("pay", "240.64.0.11:80", {{at("10.0.0.2:80"), Eligibility::kEligible}})});
  EXPECT_GT(second->version, first->version);
  EXPECT_EQ(second->find("orders"), first->find("orders"));
  EXPECT_NE(second->find("pay"), first->find("pay"));
  EXPECT_EQ(look({orders})->services.size(), 1U);
}

}  // namespace
}  // namespace mesh::app
