// SPDX-License-Identifier: Apache-2.0
#include "names/zone.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace mesh::names {
namespace {

model::ServicePtr service(std::string name, const char* frontend, model::Protocol protocol = model::Protocol::kTcp,
                          std::string source = "file") {
  auto made = std::make_shared<model::Service>();
  made->name = std::move(name);
  made->frontend = {base::SocketAddress::parse(frontend).value(), protocol};
  made->source = std::move(source);
  return made;
}

model::Snapshot snapshot(std::vector<model::ServicePtr> services) {
  model::Snapshot made;
  made.services = std::move(services);
  std::ranges::sort(made.services, {}, [](const auto& one) { return one->frontend; });
  return made;
}

/// "A 240.64.0.10", "SRV 80 orders.mesh", ...
std::string text(const Record& record) {
  if (const auto* ip = std::get_if<base::IpAddress>(&record.data)) {
    return (ip->is_v4() ? "A " : "AAAA ") + ip->to_string();
  }
  if (const auto* srv = std::get_if<Srv>(&record.data)) return "SRV " + std::to_string(srv->port) + " " + srv->target;
  if (const auto* soa = std::get_if<Soa>(&record.data)) return "SOA " + soa->zone;
  return "PTR " + std::get<std::string>(record.data);
}
std::string text(const std::vector<Record>& records) {
  std::string all;
  for (const Record& record : records) all += (all.empty() ? "" : ", ") + text(record);
  return all;
}

class ZoneTest : public ::testing::Test {
 protected:
  std::string ask(const std::string& name, Type type) {
    const auto answer = zone_.answer(name, type);
    if (!answer) return "passed on";
    if (answer->rcode == Rcode::kNameError) return "no such name";
    return answer->answers.empty() ? "nothing of this type" : text(answer->answers);
  }
  Zone zone_{snapshot({service("orders", "240.64.0.10:80"), service("orders", "240.64.0.10:443"),
                       service("orders", "[fd00::10]:80"), service("shop/cart", "240.64.0.11:80"),
                       service("dns", "240.64.0.12:53", model::Protocol::kUdp),
                       service("hidden", "240.64.0.13:53", model::Protocol::kTcp, "meshd")}),
             "mesh",
             {"meshd"}};
};

TEST_F(ZoneTest, a_service_has_its_addresses_and_ports) {
  EXPECT_EQ(ask("orders.mesh", Type::kA), "A 240.64.0.10");
  EXPECT_EQ(ask("orders.mesh", Type::kAaaa), "AAAA fd00::10");
  EXPECT_EQ(ask("orders.mesh", Type::kSrv), "SRV 80 orders.mesh, SRV 443 orders.mesh");
  EXPECT_EQ(text(zone_.answer("orders.mesh", Type::kSrv)->additional), "A 240.64.0.10, AAAA fd00::10");
  EXPECT_EQ(ask("dns.mesh", Type::kAaaa), "nothing of this type");
  EXPECT_EQ(ask("orders.mesh", static_cast<Type>(16)), "nothing of this type");
}

TEST_F(ZoneTest, what_stands_before_a_slash_is_the_wider_domain) {
  EXPECT_EQ(ask("cart.shop.mesh", Type::kA), "A 240.64.0.11");
  EXPECT_EQ(ask("shop.mesh", Type::kA), "nothing of this type") << "there is something below it (RFC 8020)";
}

TEST_F(ZoneTest, a_port_has_a_name_by_its_number_or_if_it_is_the_only_one) {
  EXPECT_EQ(ask("_443._tcp.orders.mesh", Type::kSrv), "SRV 443 orders.mesh");
  EXPECT_EQ(ask("_http._tcp.cart.shop.mesh", Type::kSrv), "SRV 80 cart.shop.mesh");
  EXPECT_EQ(ask("_http._tcp.orders.mesh", Type::kSrv), "no such name") << "which of the two?";
  EXPECT_EQ(ask("_53._tcp.dns.mesh", Type::kSrv), "no such name");
  EXPECT_EQ(ask("_53._udp.dns.mesh", Type::kSrv), "SRV 53 dns.mesh");
  EXPECT_EQ(ask("_53._udp.dns.mesh", Type::kA), "nothing of this type");
}

TEST_F(ZoneTest, addresses_of_services_have_names) {
  EXPECT_EQ(ask("10.0.64.240.in-addr.arpa", Type::kPtr), "PTR orders.mesh");
  EXPECT_EQ(ask(reverse_name(base::IpAddress::parse("fd00::10").value()), Type::kPtr), "PTR orders.mesh");
  EXPECT_EQ(ask("10.0.64.240.in-addr.arpa", Type::kA), "nothing of this type");
  EXPECT_EQ(ask("1.0.0.127.in-addr.arpa", Type::kPtr), "passed on");
}

TEST_F(ZoneTest, what_is_not_of_the_mesh_is_passed_on) {
  EXPECT_EQ(ask("example.com", Type::kA), "passed on");
  EXPECT_EQ(ask("orders.mesh.example.com", Type::kA), "passed on");
  EXPECT_EQ(ask("ordersmesh", Type::kA), "passed on");
  EXPECT_EQ(ask("", Type::kNs), "passed on");
}

TEST_F(ZoneTest, a_missing_name_is_said_to_be_missing_and_for_how_long) {
  EXPECT_EQ(ask("missing.mesh", Type::kA), "no such name");
  EXPECT_EQ(ask("hidden.mesh", Type::kA), "no such name");
  const auto answer = zone_.answer("missing.mesh", Type::kA);
  EXPECT_EQ(text(answer->authority), "SOA mesh");
  EXPECT_EQ(answer->authority.front().ttl_s, kNegativeTtlS);
}

TEST(Names, a_service_that_can_not_be_a_name_has_none) {
  EXPECT_EQ(name_of("a/b/c", "mesh"), "c.b.a.mesh");
  EXPECT_EQ(name_of("a//b", "mesh"), "");
  EXPECT_EQ(name_of(std::string(64, 'a'), "mesh"), "");
}

TEST(Names, reverse_names_are_those_of_the_standards) {
  EXPECT_EQ(reverse_name(base::IpAddress::parse("192.0.2.1").value()), "1.2.0.192.in-addr.arpa");
  EXPECT_EQ(reverse_name(base::IpAddress::parse("2001:db8::567:89ab").value()),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

TEST(Names, endpoints_do_not_change_them) {
  const auto before = snapshot({service("orders", "240.64.0.10:80")});
  auto changed = std::make_shared<model::Service>(*before.services.front());
  changed->endpoints.push_back({.address = base::SocketAddress::parse("10.0.0.1:80").value()});
  EXPECT_TRUE(same_names(before, snapshot({changed})));
  EXPECT_FALSE(same_names(before, snapshot({service("carts", "240.64.0.10:80")})));
  EXPECT_FALSE(same_names(before, snapshot({})));
}

}  // namespace
}  // namespace mesh::names
