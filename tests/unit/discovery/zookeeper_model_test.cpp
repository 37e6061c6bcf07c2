// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ZookeeperRule rule_of(ZookeeperLayout layout, std::string endpoint = {}) {
  ZookeeperRule rule;
  rule.match = "orders";
  rule.layout = layout;
  rule.path = "/here";
  rule.endpoint = std::move(endpoint);
  return rule;
}

ZookeeperInstance parse(const ZookeeperRule& rule, std::string_view data, std::string_view node = "n1") {
  const auto parsed = parse_zookeeper_node(rule, node, data, 5);
  EXPECT_TRUE(parsed) << parsed.error().to_string();
  return parsed && *parsed ? **parsed : ZookeeperInstance{};
}

std::string error(const ZookeeperRule& rule, std::string_view data, std::string_view node = "n1") {
  const auto parsed = parse_zookeeper_node(rule, node, data, 5);
  return parsed ? "no error" : parsed.error().message;
}

/// Bytes that Curator 5.4 wrote to a real server.
constexpr std::string_view kCurator =
    R"({"name":"orders","id":"96199093-2e1f-46e7-b1e4-89665200493c","address":"10.0.0.7","port":8080,"sslPort":null,)"
    R"("payload":{"@class":"java.util.LinkedHashMap","meshd-weight":"7","instance_status":"UP"},)"
    R"("registrationTimeUTC":1795270449733,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme",)"
    R"("variable":true},{"value":"://","variable":false},{"value":"address","variable":true},{"value":":",)"
    R"("variable":false},{"value":"port","variable":true}]}})";

TEST(ZookeeperNode, of_curator) {
  const auto instance = parse(rule_of(ZookeeperLayout::kCurator), kCurator);
  EXPECT_EQ(instance.id, "96199093-2e1f-46e7-b1e4-89665200493c");
  EXPECT_EQ(instance.address, "10.0.0.7");
  EXPECT_EQ(instance.port, 8080);
  EXPECT_EQ(instance.status, ZookeeperStatus::kUp);
  EXPECT_EQ(instance.labels.at("meshd-weight"), "7");
  EXPECT_EQ(instance.zxid, 5);
}

TEST(ZookeeperNode, of_spring_says_its_status_in_its_metadata) {
  const auto status = [](const std::string& text) {
    return parse(rule_of(ZookeeperLayout::kCurator),
                 R"({"address":"10.0.0.1","port":null,"sslPort":8443,"payload":{"@class":)"
                 R"("org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"a","name":"orders",)"
                 R"("metadata":{"instance_status":)" +
                     text + R"(,"zone":"z1"}}})");
  };
  EXPECT_EQ(status("\"UP\"").status, ZookeeperStatus::kUp);
  EXPECT_EQ(status("null").status, ZookeeperStatus::kUp);
  EXPECT_EQ(status("\"OUT_OF_SERVICE\"").status, ZookeeperStatus::kLeaving);
  EXPECT_EQ(status("\"DOWN\"").status, ZookeeperStatus::kDown);
  EXPECT_EQ(status("null").port, 8443) << "the port for TLS, if there is no other";
  EXPECT_EQ(status("null").labels.at("zone"), "z1");
}

TEST(ZookeeperNode, of_curator_that_is_disabled_leaves) {
  EXPECT_EQ(parse(rule_of(ZookeeperLayout::kCurator), R"({"address":"10.0.0.1","port":1,"enabled":false})").status,
            ZookeeperStatus::kLeaving);
}

TEST(ZookeeperNode, of_dubbo_is_its_name) {
  const auto rule = rule_of(ZookeeperLayout::kDubbo);
  const std::string node =
      "dubbo%3A%2F%2F10.0.0.3%3A20880%2Fcom.shop.Orders%3Fanyhost%3Dtrue%26category%3Dproviders%26version%3D1.0"
      "%26timestamp%3D1700000000000";
  const auto plain = parse(rule, "ignored", node);
  EXPECT_EQ(plain.address, "10.0.0.3");
  EXPECT_EQ(plain.port, 20880);
  EXPECT_EQ(plain.weight, 100) << "Dubbo's own default";
  EXPECT_EQ(plain.labels.at("version"), "1.0");
  EXPECT_EQ(plain.zxid, 1'700'000'000'000);
  EXPECT_EQ(parse(rule, "", node + "%26weight%3D250").weight, 250);
  EXPECT_EQ(parse(rule, "", node + "%26disabled%3Dtrue").status, ZookeeperStatus::kLeaving);
  EXPECT_EQ(parse(rule, "", "tri%3A%2F%2Fu%40%5Bfd00%3A%3A1%5D%3A50051%2Fcom.shop.Orders").address, "fd00::1");
  const auto other = parse_zookeeper_node(rule, "override%3A%2F%2F0.0.0.0%3A1%2Fi%3Fcategory%3Dconfigurators", "", 1);
  EXPECT_TRUE(other && !*other) << "another category is no provider, and no mistake";
  EXPECT_THAT(error(rule, "", "dubbo%3A%2F%2F10.0.0.3%2Fcom.shop.Orders"), HasSubstr("without a port"));
  EXPECT_THAT(error(rule, "", "dubbo%3"), HasSubstr("encoded"));
}

TEST(ZookeeperNode, of_a_server_set) {
  constexpr std::string_view kMember =
      R"({"serviceEndpoint":{"host":"10.0.0.4","port":8000},"additionalEndpoints":{"admin":{"host":"10.0.0.4",)"
      R"("port":9990}},"status":"ALIVE","shard":3})";
  EXPECT_EQ(parse(rule_of(ZookeeperLayout::kServerSet), kMember).port, 8000);
  EXPECT_EQ(parse(rule_of(ZookeeperLayout::kServerSet, "admin"), kMember).port, 9990);
  EXPECT_THAT(error(rule_of(ZookeeperLayout::kServerSet, "none"), kMember), HasSubstr("'none'"));
  const auto status = [](const std::string& text) {
    return parse(rule_of(ZookeeperLayout::kServerSet),
                 R"({"serviceEndpoint":{"host":"10.0.0.4","port":8000},"status":")" + text + "\"}")
        .status;
  };
  EXPECT_EQ(status("STARTING"), ZookeeperStatus::kDown);
  EXPECT_EQ(status("STOPPING"), ZookeeperStatus::kLeaving);
}

TEST(ZookeeperNode, of_nerve) {
  const auto instance = parse(rule_of(ZookeeperLayout::kNerve),
                              R"({"host":"10.0.0.5","port":8001,"name":"i-1","weight":9,"labels":{"az":"b"}})");
  EXPECT_EQ(instance.id, "i-1");
  EXPECT_EQ(instance.port, 8001);
  EXPECT_EQ(instance.weight, 9);
  EXPECT_EQ(instance.labels.at("az"), "b");
}

TEST(ZookeeperNode, that_is_something_else_is_an_error) {
  for (const auto layout : {ZookeeperLayout::kCurator, ZookeeperLayout::kServerSet, ZookeeperLayout::kNerve}) {
    const auto rule = rule_of(layout);
    EXPECT_EQ(error(rule, ""), "not a JSON object");
    EXPECT_EQ(error(rule, "[]"), "not a JSON object");
    EXPECT_EQ(error(rule, "\xff\xfe\x01"), "not a JSON object");
    EXPECT_THAT(error(rule, "{}"), HasSubstr("not a"));
    EXPECT_THAT(error(rule, R"({"address":"10.0.0.1","host":"10.0.0.1","port":70000})"), HasSubstr("not a"));
    EXPECT_THAT(error(rule, R"({"payload":)" + std::string(40, '[') + std::string(40, ']') + "}"), HasSubstr("deeper"));
  }
}

TEST(ZookeeperMap, instances_with_the_labels_become_endpoints) {
  ZookeeperMapper mapper{ServicePolicy{}};
  InstancesKept kept;
  auto rule = rule_of(ZookeeperLayout::kCurator);
  rule.labels = {"version=v1"};
  const std::vector<ZookeeperInstance> instances = {
      {.id = "a", .address = "10.0.0.1", .port = 80, .labels = {{"version", "v1"}, {"meshd-zone", "z1"}}},
      {.id = "b", .address = "10.0.0.2", .port = 80, .labels = {{"version", "v2"}}},
      {.id = "c",
       .address = "10.0.0.3",
       .port = 80,
       .status = ZookeeperStatus::kLeaving,
       .labels = {{"version", "v1"}}},
      {.id = "d", .address = "10.0.0.4", .port = 81, .status = ZookeeperStatus::kDown, .labels = {{"version", "v1"}}},
      {.id = "e", .address = "host-5", .port = 80, .labels = {{"version", "v1"}}},
  };
  const auto mapped = mapper.map("Orders", rule, instances, kept);
  ASSERT_EQ(mapped.services.size(), 1U);
  const model::Service& service = mapped.services[0];
  EXPECT_EQ(service.name, "orders");
  EXPECT_EQ(service.origin, "/here/Orders");
  EXPECT_EQ(service.frontend.to_string(), "0.0.0.0:80/tcp") << "the port that most have";
  ASSERT_EQ(service.endpoints.size(), 3U);
  EXPECT_EQ(service.endpoints[0].zone, "z1");
  EXPECT_EQ(service.endpoints[0].node, "");
  EXPECT_TRUE(service.endpoints[1].draining);
  EXPECT_EQ(service.endpoints[2].weight, 0);
  EXPECT_THAT(mapped.notes, ElementsAre(HasSubstr("'host-5' is not an IP address"), HasSubstr("different ports")));
  EXPECT_THAT(mapper.map("Orders", rule, {}, kept).services[0].endpoints, IsEmpty()) << "the port is remembered";
}

}  // namespace
}  // namespace mesh::discovery
