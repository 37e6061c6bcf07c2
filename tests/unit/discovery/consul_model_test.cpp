// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// One entry of /v1/health/service/NAME; `service` and `checks` are JSON.
std::string entry(const std::string& service, const std::string& checks = "[]", const std::string& node = "n1") {
  return R"({"Node":{"Node":")" + node + R"(","Address":"10.9.0.1","Meta":{"meshd-zone":"rack-of-node"},)" +
         R"("TaggedAddresses":{"wan":"192.0.2.9"}},"Service":)" + service + R"(,"Checks":)" + checks + "}";
}

std::string plain(const std::string& id, const std::string& address, int port = 80, const std::string& more = "") {
  return R"({"ID":")" + id + R"(","Service":"orders","Address":")" + address + R"(","Port":)" + std::to_string(port) +
         more + "}";
}

std::string check(const std::string& id, const std::string& status) {
  return R"({"CheckID":")" + id + R"(","Status":")" + status + R"(","Output":"long"})";
}

std::vector<ConsulInstance> parse(const std::string& entries, const std::string& tagged = "") {
  auto parsed = parse_consul_health("[" + entries + "]", tagged);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().to_string());
  return parsed ? *parsed : std::vector<ConsulInstance>{};
}

InstancesMapped map(const std::string& entries, const ConsulRule& rule = {.match = "orders"},
                    ServicePolicy policy = {}) {
  InstancesKept kept;
  return ConsulMapper(std::move(policy)).map("orders", rule, parse(entries), kept);
}

TEST(ConsulHealth, the_address_is_that_of_the_service_else_that_of_its_node) {
  const auto instances = parse(entry(plain("a", "10.0.0.1")) + "," + entry(plain("b", "")));
  ASSERT_EQ(instances.size(), 2U);
  EXPECT_EQ(instances[0].address, "10.0.0.1");
  EXPECT_EQ(instances[1].address, "10.9.0.1");
}

TEST(ConsulHealth, a_tagged_address_is_used_where_there_is_one) {
  const std::string tagged = R"(,"TaggedAddresses":{"wan":{"Address":"198.51.100.7","Port":8443}})";
  const auto instances = parse(
      entry(plain("a", "10.0.0.1", 80, tagged)) + "," + entry(plain("b", "10.0.0.2")) + "," + entry(plain("c", "")),
      "wan");
  ASSERT_EQ(instances.size(), 3U);
  EXPECT_EQ(instances[0].address, "198.51.100.7");
  EXPECT_EQ(instances[0].port, 8443);
  EXPECT_EQ(instances[1].address, "10.0.0.2") << "it has none of that name";
  EXPECT_EQ(instances[2].address, "192.0.2.9") << "the node's, because the service has no address of its own";
}

TEST(ConsulHealth, the_worst_check_of_instance_and_node_counts) {
  const auto status = [](const std::string& checks) { return parse(entry(plain("a", "10.0.0.1"), checks))[0].status; };
  EXPECT_EQ(status("[]"), ConsulStatus::kPassing);
  EXPECT_EQ(status("null"), ConsulStatus::kPassing);
  EXPECT_EQ(status("[" + check("serfHealth", "passing") + "," + check("c", "warning") + "]"), ConsulStatus::kWarning);
  EXPECT_EQ(status("[" + check("serfHealth", "critical") + "," + check("c", "warning") + "]"), ConsulStatus::kCritical);
  EXPECT_EQ(status("[" + check("_node_maintenance", "critical") + "]"), ConsulStatus::kMaintenance);
  EXPECT_EQ(status("[" + check("c", "critical") + "," + check("_service_maintenance:a", "critical") + "]"),
            ConsulStatus::kMaintenance);
  EXPECT_EQ(status("[" + check("c", "unheard of") + "]"), ConsulStatus::kCritical);
}

TEST(ConsulHealth, sidecars_gateways_and_socket_files_are_not_instances) {
  EXPECT_THAT(parse(entry(plain("a", "10.0.0.1", 80, R"(,"Kind":"connect-proxy")")) + "," +
                    entry(plain("b", "10.0.0.2", 80, R"(,"SocketPath":"/run/x.sock")"))),
              IsEmpty());
}

TEST(ConsulHealth, what_is_not_an_answer_of_consul_is_an_error) {
  for (const char* body : {"", "{}", "null", "[1]", "[{}]", R"([{"Node":{}}])", "[{\"Node\": \xff", "[[[", "<html>"}) {
    const auto parsed = parse_consul_health(body, "");
    ASSERT_FALSE(parsed) << body;
    EXPECT_EQ(parsed.error().kind, base::ErrorKind::kInvalid);
    EXPECT_THAT(parsed.error().to_string(), HasSubstr("HTTP API"));
  }
  EXPECT_TRUE(parse_consul_health("[]", ""));
  const auto deep = parse_consul_health(std::string(100'000, '['), "");
  ASSERT_FALSE(deep);
  EXPECT_THAT(deep.error().message, HasSubstr("nested deeper"));
}

TEST(ConsulCatalog, names_and_tags) {
  const auto names = parse_consul_catalog(R"({"consul":[],"orders":["v1","eu"],"old":null})");
  ASSERT_TRUE(names);
  ASSERT_EQ(names->size(), 3U);
  EXPECT_EQ((*names)[2].name, "orders");
  EXPECT_THAT((*names)[2].tags, ElementsAre("v1", "eu"));
  EXPECT_FALSE(parse_consul_catalog("[]"));
}

TEST(ConsulChecks, failing_ones_are_known_by_service_and_by_node_whatever_their_order) {
  const std::string a = R"({"Node":"n1","CheckID":"c","Status":"critical","ServiceID":"o1","ServiceName":"orders"})";
  const std::string b = R"({"Node":"n2","CheckID":"c","Status":"warning","ServiceID":"o2","ServiceName":"orders"})";
  const std::string node = R"({"Node":"n3","CheckID":"serfHealth","Status":"critical"})";
  const std::string good = R"({"Node":"n4","CheckID":"c","Status":"passing","ServiceID":"p","ServiceName":"pay"})";
  const auto one = parse_consul_failing("[" + a + "," + b + "," + node + "," + good + "]");
  const auto other = parse_consul_failing("[" + node + "," + b + "," + a + "]");
  ASSERT_TRUE(one && other);
  EXPECT_EQ(one->services, other->services);
  EXPECT_EQ(one->services.size(), 1U);
  EXPECT_TRUE(one->nodes.contains("n3"));
  EXPECT_NE(one->services, parse_consul_failing("[" + a + "]")->services);
}

TEST(ConsulRule, the_first_that_matches_name_and_tags_counts_and_nothing_is_wanted_unasked) {
  const std::vector<ConsulRule> rules = {
      {.match = "pay-*", .tags = {"eu"}}, {.match = "orders"}, {.match = std::string(kMatchAll), .tags = {"mesh"}}};
  EXPECT_EQ(find_consul_rule(rules, {"pay-card", {"us", "eu"}}), rules.data());
  EXPECT_EQ(find_consul_rule(rules, {"pay-card", {"us"}}), nullptr);
  EXPECT_EQ(find_consul_rule(rules, {"orders", {}}), &rules[1]);
  EXPECT_EQ(find_consul_rule(rules, {"any", {"mesh"}}), &rules[2]);
  EXPECT_EQ(find_consul_rule({}, {"orders", {}}), nullptr);
}

TEST(ConsulMap, passing_warning_critical_and_maintenance) {
  const std::string weights = R"(,"Weights":{"Passing":10,"Warning":2})";
  const auto mapped =
      map(entry(plain("a", "10.0.0.1", 80, weights)) + "," +
          entry(plain("b", "10.0.0.2", 80, weights), "[" + check("c", "warning") + "]") + "," +
          entry(plain("c", "10.0.0.3", 80, weights), "[" + check("c", "critical") + "]") + "," +
          entry(plain("d", "10.0.0.4", 80, weights), "[" + check("_node_maintenance", "critical") + "]"));
  ASSERT_EQ(mapped.services.size(), 1U);
  const auto& endpoints = mapped.services[0].endpoints;
  ASSERT_EQ(endpoints.size(), 4U);
  EXPECT_EQ(endpoints[0].weight, 10);
  EXPECT_EQ(endpoints[1].weight, 2);
  EXPECT_EQ(endpoints[2].weight, 0);
  EXPECT_FALSE(endpoints[2].draining);
  EXPECT_TRUE(endpoints[3].draining);
  EXPECT_THAT(mapped.notes, IsEmpty());
}

TEST(ConsulMap, a_frontend_without_an_address_has_the_port_of_its_instances) {
  const auto mapped = map(entry(plain("a", "10.0.0.1", 8080)));
  ASSERT_EQ(mapped.services.size(), 1U);
  EXPECT_EQ(mapped.services[0].name, "orders");
  EXPECT_EQ(mapped.services[0].frontend.to_string(), "0.0.0.0:8080/tcp");
  EXPECT_EQ(mapped.services[0].endpoints[0].address.to_string(), "10.0.0.1:8080");
  EXPECT_EQ(mapped.services[0].endpoints[0].node, "n1");
  EXPECT_EQ(mapped.services[0].endpoints[0].zone, "rack-of-node");
}

TEST(ConsulMap, both_families_are_two_services) {
  const auto mapped = map(entry(plain("a", "10.0.0.1")) + "," + entry(plain("b", "fd00::1")));
  ASSERT_EQ(mapped.services.size(), 2U);
  EXPECT_EQ(mapped.services[0].frontend.to_string(), "0.0.0.0:80/tcp");
  EXPECT_EQ(mapped.services[1].frontend.to_string(), "[::]:80/tcp");
  EXPECT_EQ(mapped.services[1].endpoints[0].address.to_string(), "[fd00::1]:80");
}

TEST(ConsulMap, instances_with_different_ports_keep_the_frontends_port_as_long_as_one_has_it) {
  ConsulMapper mapper{ServicePolicy{}};
  InstancesKept kept;
  const ConsulRule rule{.match = "orders"};
  const auto port = [&](const std::string& entries) {
    const auto mapped = mapper.map("orders", rule, parse(entries), kept);
    return mapped.services.empty() ? 0 : mapped.services[0].frontend.address.port;
  };
  EXPECT_EQ(port(""), 0) << "nothing says it yet: no service";
  EXPECT_EQ(port(entry(plain("a", "10.0.0.1", 81)) + "," + entry(plain("b", "10.0.0.2", 80)) + "," +
                 entry(plain("c", "10.0.0.3", 81))),
            81);
  EXPECT_EQ(port(entry(plain("a", "10.0.0.1", 81)) + "," + entry(plain("b", "10.0.0.2", 80)) + "," +
                 entry(plain("c", "10.0.0.3", 80))),
            81);
  EXPECT_EQ(port(""), 81) << "empty, and still there: connects are refused, not sent elsewhere";
  EXPECT_EQ(port(entry(plain("b", "10.0.0.2", 80))), 80);
  EXPECT_THAT(
      mapper.map("orders", rule, parse(entry(plain("a", "10.0.0.1", 81)) + "," + entry(plain("b", "", 80))), kept)
          .notes,
      ElementsAre(HasSubstr("different ports")));
}

TEST(ConsulMap, after_a_restart_a_frontend_has_the_port_and_family_it_had) {
  model::Service last;
  last.name = "orders";
  last.frontend.address = *base::SocketAddress::parse("[fd00:77::1]:81");
  ConsulMapper mapper(ServicePolicy{}, std::vector{std::make_shared<const model::Service>(last)});
  InstancesKept kept;
  const auto mapped = mapper.map("orders", {.match = "orders"}, {}, kept);
  ASSERT_EQ(mapped.services.size(), 1U) << "it has no instance, and does not go";
  EXPECT_EQ(mapped.services[0].frontend.to_string(), "[::]:81/tcp");
}

TEST(ConsulMap, the_rule_and_then_the_metadata_say_the_port) {
  const std::string meta = R"(,"Meta":{"meshd-port":"8000"})";
  EXPECT_EQ(map(entry(plain("a", "10.0.0.1", 31001, meta))).services[0].frontend.address.port, 8000);
  const auto mapped = map(entry(plain("a", "10.0.0.1", 31001, meta)),
                          {.match = "orders", .name = "shop/orders", .address = "240.64.0.9", .port = 90});
  EXPECT_EQ(mapped.services[0].name, "shop/orders");
  EXPECT_EQ(mapped.services[0].frontend.to_string(), "240.64.0.9:90/tcp");
}

TEST(ConsulMap, instances_are_chosen_by_tags) {
  const auto tagged = [](const std::string& tags) { return R"(,"Tags":)" + tags; };
  const auto mapped = map(entry(plain("a", "10.0.0.1", 80, tagged(R"(["eu","v1"])"))) + "," +
                              entry(plain("b", "10.0.0.2", 80, tagged(R"(["eu","canary"])"))) + "," +
                              entry(plain("c", "10.0.0.3", 80, tagged("null"))),
                          {.match = "orders", .tags = {"eu"}, .without_tags = {"canary"}});
  ASSERT_EQ(mapped.services[0].endpoints.size(), 1U);
  EXPECT_EQ(mapped.services[0].endpoints[0].address.to_string(), "10.0.0.1:80");
}

TEST(ConsulMap, metadata_says_weight_zone_balance_and_probe_and_the_newest_instance_speaks_for_all) {
  const auto meta = [](const std::string& text, int index) {
    return R"(,"Meta":{)" + text + R"(},"ModifyIndex":)" + std::to_string(index);
  };
  const auto mapped = map(
      entry(plain("a", "10.0.0.1", 80, meta(R"("meshd-weight":"7","meshd-zone":"z1","meshd-balance":"maglev")", 5))) +
      "," + entry(plain("b", "10.0.0.2", 80, meta(R"("meshd-balance":"round_robin","meshd-probe":"http:/ready")", 9))));
  const model::Service& service = mapped.services[0];
  EXPECT_EQ(service.endpoints[0].weight, 7);
  EXPECT_EQ(service.endpoints[0].zone, "z1");
  EXPECT_EQ(service.algorithm, model::Algorithm::kRoundRobin);
  ASSERT_TRUE(service.probe);
  EXPECT_EQ(service.probe->type, model::ProbeType::kHttp);
  EXPECT_EQ(service.probe->path, "/ready");
}

TEST(ConsulMap, probes_start_from_the_policy_and_equal_ones_are_shared) {
  ServicePolicy policy;
  policy.probe = std::make_shared<model::ProbePolicy>(model::ProbePolicy{.interval = std::chrono::milliseconds(1500)});
  ConsulMapper mapper(policy);
  InstancesKept kept;
  const auto probe = [&](const std::string& text) {
    const std::string meta = R"(,"Meta":{"meshd-probe":")" + text + R"("})";
    return mapper.map("orders", {.match = "orders"}, parse(entry(plain("a", "10.0.0.1", 80, meta))), kept)
        .services[0]
        .probe;
  };
  EXPECT_EQ(probe("none"), nullptr);
  EXPECT_EQ(probe("grpc:shop.Orders")->grpc_service, "shop.Orders");
  EXPECT_EQ(probe("https")->interval, std::chrono::milliseconds(1500));
  EXPECT_EQ(probe("http:/x"), probe("http:/x"));
}

TEST(ConsulMap, what_is_wrong_is_left_out_and_named) {
  const auto notes = [](const std::string& service) {
    const auto mapped = map(entry(service));
    return mapped.notes.empty() ? "" : mapped.notes.front();
  };
  EXPECT_THAT(notes(plain("a", "orders-1.example.com")), HasSubstr("not an IP address"));
  EXPECT_THAT(notes(plain("a", "0.0.0.0")), HasSubstr("not an IP address"));
  EXPECT_THAT(notes(plain("a", "10.0.0.1", 0)), HasSubstr("no port"));
  EXPECT_THAT(notes(plain("a", "10.0.0.1", 80, R"(,"Meta":{"meshd-weight":"70000"})")), HasSubstr("meshd-weight"));
  EXPECT_THAT(notes(plain("a", "10.0.0.1", 80, R"(,"Meta":{"meshd-balance":"best"})")), HasSubstr("no such balance"));
  EXPECT_THAT(notes(plain("a", "10.0.0.1", 80, R"(,"Meta":{"meshd-probe":"http:ready"})")), HasSubstr("meshd-probe"));
  EXPECT_THAT(notes(plain("a", "10.0.0.1", 80, R"(,"Meta":{"meshd-port":"0"})")), HasSubstr("meshd-port"));
  InstancesKept kept;
  EXPECT_THAT(ConsulMapper(ServicePolicy{}).map("Or ders", {.match = "Or ders"}, {}, kept).notes,
              ElementsAre(HasSubstr("give its rule a name")));
}

TEST(ConsulMap, of_two_instances_with_one_address_the_healthier_counts) {
  const auto mapped = map(entry(plain("a", "10.0.0.1"), "[" + check("c", "critical") + "]") + "," +
                          entry(plain("b", "10.0.0.1"), "[]", "n2"));
  ASSERT_EQ(mapped.services[0].endpoints.size(), 1U);
  EXPECT_EQ(mapped.services[0].endpoints[0].weight, 1);
}

TEST(ConsulMap, a_given_address_takes_instances_of_its_family_and_never_itself) {
  const auto mapped =
      map(entry(plain("a", "10.0.0.1")) + "," + entry(plain("b", "fd00::1")) + "," + entry(plain("c", "240.64.0.9")),
          {.match = "orders", .address = "240.64.0.9", .port = 80});
  ASSERT_EQ(mapped.services.size(), 1U);
  EXPECT_EQ(mapped.services[0].endpoints.size(), 1U);
  EXPECT_THAT(mapped.notes, ElementsAre(HasSubstr("own frontend"), HasSubstr("other family")));
}

}  // namespace
}  // namespace mesh::discovery
