// SPDX-License-Identifier: Apache-2.0
#include "discovery/instances.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Instance at(const std::string& address, std::int64_t port = 80) {
  return {.label = "instance " + address, .address = address, .port = port};
}

InstancesMapped map(const std::vector<Instance>& instances, const InstancesAs& as = {.name = "orders"},
                    InstancesKept* kept = nullptr, ServicePolicy policy = {}) {
  InstancesKept fresh;
  return InstanceMapper(std::move(policy)).map(as, instances, kept != nullptr ? *kept : fresh);
}

std::vector<std::string> addresses(const model::Service& service) {
  std::vector<std::string> all;
  for (const auto& endpoint : service.endpoints) all.push_back(endpoint.address.to_string());
  return all;
}

TEST(Instances, become_endpoints_by_address_with_what_they_say) {
  Instance heavy = at("10.0.0.2");
  heavy.meta = {{"meshd-weight", "300"}};
  heavy.zone = "z";
  heavy.node = "n";
  Instance down = at("10.0.0.3");
  down.meta = heavy.meta;
  down.weight = 0;
  down.weight_is_fixed = true;
  Instance leaving = at("10.0.0.4");
  leaving.draining = true;
  const auto mapped = map({leaving, heavy, down, at("10.0.0.1")});
  ASSERT_EQ(mapped.services.size(), 1U);
  const auto& endpoints = mapped.services[0].endpoints;
  EXPECT_THAT(addresses(mapped.services[0]), ElementsAre("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"));
  EXPECT_EQ(endpoints[1].weight, 300);
  EXPECT_EQ(endpoints[1].zone, "z");
  EXPECT_EQ(endpoints[1].node, "n");
  EXPECT_EQ(endpoints[2].weight, 0);
  EXPECT_TRUE(endpoints[3].draining);
  EXPECT_THAT(mapped.notes, IsEmpty());
}

TEST(Instances, what_cannot_be_an_endpoint_is_left_out_with_a_note) {
  const auto mapped = map({at("10.0.0.1"), at("web.example"), at("0.0.0.0"), at("10.0.0.2", 0), at("10.0.0.3", 70000)});
  EXPECT_THAT(addresses(mapped.services.at(0)), ElementsAre("10.0.0.1:80"));
  EXPECT_THAT(mapped.notes, ElementsAre(HasSubstr("'web.example' is not an IP address"), HasSubstr("'0.0.0.0'"),
                                        HasSubstr("10.0.0.2 has no port"), HasSubstr("10.0.0.3 has no port")));
  EXPECT_THAT(map(std::vector<Instance>(9, at("x"))).notes.size(), 5U) << "a few say it, and that there are more";
}

TEST(Instances, of_two_with_one_address_the_healthier_counts) {
  Instance bad = at("10.0.0.1");
  bad.rank = 2;
  bad.weight = 0;
  const auto mapped = map({bad, at("10.0.0.1"), bad});
  ASSERT_EQ(mapped.services.at(0).endpoints.size(), 1U);
  EXPECT_EQ(mapped.services[0].endpoints[0].weight, 1);
}

TEST(Instances, the_frontend_has_the_port_of_the_rule_or_the_newest_instance_or_most_and_keeps_it) {
  Instance old = at("10.0.0.1", 8080);
  old.meta = {{"meshd-port", "81"}};
  Instance newest = at("10.0.0.2", 8080);
  newest.meta = {{"meshd-port", "82"}};
  newest.changed = 7;
  EXPECT_EQ(map({old, newest}).services.at(0).frontend.address.port, 82);
  EXPECT_EQ(map({old, newest}, {.name = "orders", .port = 9}).services.at(0).frontend.address.port, 9);

  InstancesKept kept;
  EXPECT_THAT(map({}, {.name = "orders"}, &kept).services, IsEmpty()) << "nobody said a port yet";
  const auto mixed = map({at("10.0.0.1", 8080), at("10.0.0.2", 8080), at("10.0.0.3", 90)}, {.name = "orders"}, &kept);
  EXPECT_EQ(mixed.services.at(0).frontend.address.port, 8080);
  EXPECT_THAT(mixed.notes, ElementsAre(HasSubstr("different ports")));
  EXPECT_EQ(map({at("10.0.0.1", 8080), at("10.0.0.2", 90), at("10.0.0.3", 90)}, {.name = "orders"}, &kept)
                .services.at(0)
                .frontend.address.port,
            8080)
      << "it does not move while anybody has it";
  EXPECT_EQ(map({}, {.name = "orders"}, &kept).services.at(0).frontend.address.port, 8080);
}

TEST(Instances, both_families_are_two_services_and_a_given_address_is_one) {
  const std::vector<Instance> both = {at("10.0.0.1"), at("fd00::1")};
  const auto mapped = map(both);
  ASSERT_EQ(mapped.services.size(), 2U);
  EXPECT_THAT(addresses(mapped.services[0]), ElementsAre("10.0.0.1:80"));
  EXPECT_THAT(addresses(mapped.services[1]), ElementsAre("[fd00::1]:80"));
  EXPECT_TRUE(mapped.services[0].frontend.address.ip.is_v4());
  const auto given = map(both, {.name = "orders", .address = "240.64.0.1"});
  ASSERT_EQ(given.services.size(), 1U);
  EXPECT_EQ(given.services[0].frontend.to_string(), "240.64.0.1:80/tcp");
  EXPECT_THAT(given.notes, ElementsAre(HasSubstr("other family")));
  EXPECT_THAT(map({at("240.64.0.1"), at("10.0.0.1")}, {.name = "orders", .address = "240.64.0.1"}).notes,
              ElementsAre(HasSubstr("its own frontend")));
}

TEST(Instances, probe_and_balance_are_what_the_newest_says) {
  const auto with = [](const std::string& key, const std::string& value) {
    Instance instance = at("10.0.0.1");
    instance.meta = {{key, value}};
    ServicePolicy policy;
    policy.probe = std::make_shared<const model::ProbePolicy>();
    return map({instance}, {.name = "orders"}, nullptr, policy);
  };
  EXPECT_EQ(with("meshd-probe", "none").services.at(0).probe, nullptr);
  const auto http = with("meshd-probe", "http:/health");
  EXPECT_EQ(http.services.at(0).probe->type, model::ProbeType::kHttp);
  EXPECT_EQ(http.services.at(0).probe->path, "/health");
  EXPECT_EQ(with("meshd-probe", "grpc:orders").services.at(0).probe->grpc_service, "orders");
  const auto wrong = with("meshd-probe", "ping");
  EXPECT_EQ(wrong.services.at(0).probe->type, model::ProbeType::kTcp) << "that of the source";
  EXPECT_THAT(wrong.notes, ElementsAre(HasSubstr("'ping' is ignored")));
  EXPECT_EQ(with("meshd-balance", "round_robin").services.at(0).algorithm, model::Algorithm::kRoundRobin);
  EXPECT_THAT(with("meshd-balance", "fair").notes, ElementsAre(HasSubstr("no such balance")));
  EXPECT_THAT(with("meshd-weight", "many").notes, ElementsAre(HasSubstr("0 to 65535")));
}

TEST(Instances, names_are_lower_case_or_none) {
  EXPECT_EQ(name_in_mesh("ORDERS-V1.eu_x/y"), "orders-v1.eu_x/y");
  EXPECT_EQ(name_in_mesh("ORDERS V1"), "");
  EXPECT_EQ(name_in_mesh(""), "");
}

}  // namespace
}  // namespace mesh::discovery
