// SPDX-License-Identifier: Apache-2.0
#include "app/relay_ports.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace mesh::app {
namespace {

model::ServiceRoutePtr service(const std::string& address, bool tls, bool up = true) {
  auto service = std::make_shared<model::Service>();
  service->name = "orders";
  service->frontend = {*base::SocketAddress::parse(address), model::Protocol::kTcp};
  service->endpoints.push_back({.address = *base::SocketAddress::parse("10.0.0.1:443")});
  if (tls) service->tls = std::make_shared<const model::TlsPolicy>();
  auto route = std::make_shared<model::ServiceRoute>();
  route->service = service;
  if (up) route->routes.push_back({});
  return route;
}

model::RoutingTablePtr table(std::vector<model::ServiceRoutePtr> services) {
  auto table = std::make_shared<model::RoutingTable>();
  table->services = std::move(services);
  return table;
}

std::string port_of(const model::RoutingTablePtr& kernel, std::size_t at) {
  const auto& endpoints = kernel->services[at]->service->endpoints;
  return endpoints.empty() ? "none" : endpoints.front().address.to_string();
}

TEST(RelayPorts, a_table_without_tls_is_the_same_table) {
  RelayPorts ports(15400);
  const auto plain = table({service("240.0.0.1:80", false)});
  EXPECT_EQ(ports.stand_in(plain), plain);
}

TEST(RelayPorts, each_service_has_a_port_of_its_family_and_keeps_it) {
  RelayPorts ports(15400);
  const auto a = service("240.0.0.1:80", true), b = service("[fd00::1]:80", true);
  const auto first = ports.stand_in(table({a, b}));
  EXPECT_EQ(port_of(first, 0), "127.0.0.1:15400");
  EXPECT_EQ(port_of(first, 1), "[::1]:15401");
  EXPECT_TRUE(first->services[0]->service->relay_listeners);
  EXPECT_FALSE(first->services[0]->service->ejection.enabled);
  const auto second = ports.stand_in(table({service("240.0.0.0:80", true), a, b}));
  EXPECT_EQ(second->services[1], first->services[0]) << "an unchanged route keeps its stand-in";
  EXPECT_EQ(port_of(second, 0), "127.0.0.1:15402");
}

TEST(RelayPorts, a_service_whose_endpoints_are_all_down_refuses_and_keeps_its_port) {
  RelayPorts ports(15400);
  const auto down = ports.stand_in(table({service("240.0.0.1:80", true, false)}));
  EXPECT_TRUE(down->services[0]->routes.empty());
  EXPECT_EQ(port_of(down, 0), "127.0.0.1:15400");
  EXPECT_EQ(ports.stand_in(table({service("240.0.0.1:80", true)}))->services[0]->routes.size(), 1U);
}

TEST(RelayPorts, a_port_that_was_given_up_is_the_last_to_be_given_again) {
  RelayPorts ports(15400);
  ports.stand_in(table({service("240.0.0.1:80", true)}));
  for (std::uint32_t i = 1; i < kRelayPortsMax; ++i) {
    const auto next = ports.stand_in(table({service(fmt::format("240.0.1.1:{}", i), true)}));
    ASSERT_EQ(port_of(next, 0), fmt::format("127.0.0.1:{}", 15400 + i));
  }
  EXPECT_EQ(port_of(ports.stand_in(table({service("240.0.2.1:80", true)})), 0), "127.0.0.1:15400");
}

TEST(RelayPorts, what_an_earlier_agent_gave_stays) {
  RelayPorts ports(15400);
  ports.restore({*base::SocketAddress::parse("240.0.0.2:80"), model::Protocol::kTcp}, 15407);
  ports.restore({*base::SocketAddress::parse("240.0.0.3:80"), model::Protocol::kTcp}, 9999);  // of another range
  const auto kernel = ports.stand_in(
      table({service("240.0.0.1:80", true), service("240.0.0.2:80", true), service("240.0.0.3:80", true)}));
  EXPECT_EQ(port_of(kernel, 1), "127.0.0.1:15407");
  EXPECT_EQ(port_of(kernel, 0), "127.0.0.1:15408");
  EXPECT_EQ(port_of(kernel, 2), "127.0.0.1:15409");
}

TEST(RelayPorts, services_beyond_the_last_port_are_refused_and_named) {
  RelayPorts ports(15400);
  std::vector<model::ServiceRoutePtr> many;
  for (std::uint32_t i = 0; i <= kRelayPortsMax; ++i) many.push_back(service(fmt::format("240.0.0.1:{}", i + 1), true));
  const auto kernel = ports.stand_in(table(many));
  ASSERT_EQ(ports.without_port().size(), 1U);
  EXPECT_TRUE(kernel->services.back()->routes.empty());
  EXPECT_EQ(port_of(kernel, kRelayPortsMax), "none");
  many.erase(many.begin());
  EXPECT_NE(port_of(ports.stand_in(table(many)), kRelayPortsMax - 1), "none") << "one has gone";
}

}  // namespace
}  // namespace mesh::app
