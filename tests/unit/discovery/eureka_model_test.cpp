// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discovery/eureka.hpp"

namespace mesh::discovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// As a server of today writes an instance; `more` is put at its end.
std::string instance(const std::string& id, const std::string& more = "") {
  return R"({"instanceId":")" + id + R"(","hostName":"h1","app":"ORDERS","ipAddr":"10.0.0.1","status":"UP",)" +
         R"("overriddenStatus":"UNKNOWN","port":{"$":8080,"@enabled":"true"},)" +
         R"("securePort":{"$":8443,"@enabled":"false"},"countryId":1,)" +
         R"("dataCenterInfo":{"@class":"x","name":"MyOwn"},"leaseInfo":{"durationInSecs":90},)" +
         R"("metadata":{"@class":"java.util.Collections$EmptyMap"},"vipAddress":"orders",)" +
         R"("lastDirtyTimestamp":"1700000000123","actionType":"ADDED")" + more + "}";
}

std::string apps(const std::string& applications, const std::string& hash = "UP_1_") {
  return R"({"applications":{"versions__delta":"1","apps__hashcode":")" + hash + R"(","application":)" + applications +
         "}}";
}

std::string orders(const std::string& instances) { return R"([{"name":"ORDERS","instance":)" + instances + "}]"; }

EurekaAnswer parsed(const std::string& body) {
  auto answer = parse_eureka(body);
  EXPECT_TRUE(answer) << body << (answer ? "" : answer.error().to_string());
  return answer ? std::move(*answer) : EurekaAnswer{};
}

EurekaInstance one(const std::string& body) {
  EurekaAnswer answer = parsed(body);
  EXPECT_EQ(answer.instances.size(), 1U) << body;
  return answer.instances.empty() ? EurekaInstance{} : answer.instances.front();
}

TEST(EurekaAnswer, an_instance_has_what_is_needed) {
  const EurekaAnswer answer = parsed(apps(orders("[" + instance("a") + "]")));
  EXPECT_EQ(answer.hash, "UP_1_");
  const EurekaInstance expected{.app = "ORDERS",
                                .id = "a",
                                .status = EurekaStatus::kUp,
                                .host = "h1",
                                .address = "10.0.0.1",
                                .port = {8080, true},
                                .secure_port = {8443, false},
                                .changed = 1700000000123,
                                .action = EurekaAction::kAdded};
  ASSERT_EQ(answer.instances.size(), 1U);
  EXPECT_EQ(answer.instances[0], expected);
}

TEST(EurekaAnswer, one_element_may_stand_without_a_list) {
  const std::string single = R"({"name":"ORDERS","instance":)" + instance("a") + "}";
  EXPECT_EQ(one(apps(single)).id, "a");
  EXPECT_EQ(one(apps("[" + single + "]")).id, "a");
  const EurekaAnswer two = parsed(apps(orders("[" + instance("a") + "," + instance("b") + "]")));
  EXPECT_EQ(two.instances.size(), 2U);
}

TEST(EurekaAnswer, ports_are_numbers_or_texts_and_switched_by_booleans_or_texts) {
  const auto ports = [](const std::string& port, const std::string& secure) {
    return one(apps(orders("[" + instance("a", R"(,"port":)" + port + R"(,"securePort":)" + secure) + "]")));
  };
  const auto old = ports(R"({"$":"8080","@enabled":true})", R"({"@enabled":"True","$":"8443"})");
  EXPECT_EQ(old.port, (EurekaPort{8080, true}));
  EXPECT_EQ(old.secure_port, (EurekaPort{8443, true}));
  const auto off = ports(R"({"$":8080,"@enabled":false})", R"({"$":"x"})");
  EXPECT_EQ(off.port, (EurekaPort{8080, false}));
  EXPECT_EQ(off.secure_port.number, 0);
  EXPECT_EQ(ports("8080", "null").port.number, 0) << "no port of this form is known";
  EXPECT_EQ(ports(R"({"$":18446744073709551615})", "[]").port.number, INT64_MAX);
}

TEST(EurekaAnswer, overridden_status_has_two_spellings_and_an_unknown_status_is_unknown) {
  const auto with = [](const std::string& more) { return one(apps(orders("[" + instance("a", more) + "]"))); };
  EXPECT_EQ(with(R"(,"overriddenStatus":"OUT_OF_SERVICE")").overridden, EurekaStatus::kOutOfService);
  EXPECT_EQ(with(R"(,"overriddenstatus":"OUT_OF_SERVICE")").overridden, EurekaStatus::kOutOfService);
  EXPECT_EQ(with(R"(,"status":"STARTING")").status, EurekaStatus::kStarting);
  EXPECT_EQ(with(R"(,"status":"NAPPING")").status, EurekaStatus::kUnknown);
  EXPECT_EQ(with(R"(,"status":null)").status, EurekaStatus::kUnknown);
}

TEST(EurekaAnswer, zone_and_metadata) {
  const auto with = [](const std::string& more) { return one(apps(orders("[" + instance("a", more) + "]"))); };
  const std::string amazon =
      R"(,"dataCenterInfo":{"name":"Amazon","metadata":{"availability-zone":"eu-1a","instance-id":"i-1"}})";
  EXPECT_EQ(with(amazon).zone, "eu-1a");
  EXPECT_EQ(with(amazon + R"(,"metadata":{"zone":"z1"})").zone, "z1");
  const auto most = with(amazon + R"(,"metadata":{"zone":"z1","meshd-zone":"z2","meshd-weight":"3","other":"x"})");
  EXPECT_EQ(most.zone, "z2");
  EXPECT_THAT(most.meta, ElementsAre(std::pair<std::string, std::string>("meshd-weight", "3"),
                                     std::pair<std::string, std::string>("meshd-zone", "z2")));
}

TEST(EurekaAnswer, old_servers_name_instances_by_host_and_applications_in_any_case) {
  const auto answer = parsed(apps(
      R"([{"instance":[{"hostName":"h7","ipAddr":"10.0.0.7","status":"UP"}],"name":"orders"},)"
      R"({"name":"pay","instance":{"hostName":"h8","status":"UP","dataCenterInfo":{"metadata":{"instance-id":"i-8"}}}}])"));
  ASSERT_EQ(answer.instances.size(), 2U);
  EXPECT_EQ(answer.instances[0].app, "ORDERS");
  EXPECT_EQ(answer.instances[0].id, "h7");
  EXPECT_EQ(answer.instances[1].app, "PAY");
  EXPECT_EQ(answer.instances[1].id, "i-8");
}

TEST(EurekaAnswer, an_empty_registry_is_an_answer) {
  EXPECT_THAT(parsed(apps("[]", "")).instances, IsEmpty());
  EXPECT_THAT(parsed(R"({"applications":{}})").instances, IsEmpty());
}

TEST(EurekaAnswer, what_is_not_an_answer_of_eureka_is_an_error) {
  for (const char* body : {"", "[]", "{}", "null", R"({"applications":[]})", "<applications/>", R"({"applications":{)",
                           "{\"applications\": \xff", R"({"applications":"x"})"}) {
    const auto answer = parse_eureka(body);
    ASSERT_FALSE(answer) << body;
    EXPECT_EQ(answer.error().kind, base::ErrorKind::kInvalid);
    EXPECT_THAT(answer.error().to_string(), HasSubstr("/eureka/v2"));
  }
  const auto deep = parse_eureka(R"({"applications":{"application":)" + std::string(100'000, '['));
  ASSERT_FALSE(deep);
  EXPECT_THAT(deep.error().message, HasSubstr("nested deeper"));
}

TEST(EurekaHash, is_written_as_servers_write_it) {
  EXPECT_EQ(eureka_hash({}), "");
  EXPECT_EQ(eureka_hash({2, 1, 0, 0, 30}), "DOWN_2_OUT_OF_SERVICE_1_UP_30_");
  EXPECT_EQ(eureka_hash({0, 0, 4, 5, 0}), "STARTING_4_UNKNOWN_5_");
}

TEST(EurekaRule, the_first_that_matches_counts_whatever_the_case_and_nothing_is_wanted_unasked) {
  const std::vector<EurekaRule> rules = {
      {.match = "Pay-*"}, {.match = "orders", .name = "o"}, {.match = std::string(kMatchAll)}};
  EXPECT_EQ(find_eureka_rule(rules, "PAY-CARD"), rules.data());
  EXPECT_EQ(find_eureka_rule(rules, "ORDERS"), &rules[1]);
  EXPECT_EQ(find_eureka_rule(rules, "ANY"), &rules[2]);
  EXPECT_EQ(find_eureka_rule({}, "ORDERS"), nullptr);
}

TEST(EurekaInstance, what_a_status_means) {
  const auto mapped = [](EurekaStatus status, EurekaStatus overridden = EurekaStatus::kUnknown) {
    return to_instance({.id = "a", .status = status, .overridden = overridden, .meta = {{"meshd-weight", "7"}}}, {});
  };
  EXPECT_FALSE(mapped(EurekaStatus::kUp).draining);
  EXPECT_FALSE(mapped(EurekaStatus::kUp).weight_is_fixed);
  EXPECT_TRUE(mapped(EurekaStatus::kOutOfService).draining);
  EXPECT_TRUE(mapped(EurekaStatus::kUp, EurekaStatus::kOutOfService).draining) << "ordered, and about to happen";
  for (const auto status : {EurekaStatus::kDown, EurekaStatus::kStarting, EurekaStatus::kUnknown}) {
    EXPECT_EQ(mapped(status, EurekaStatus::kUp).weight, 0);
    EXPECT_TRUE(mapped(status, EurekaStatus::kUp).weight_is_fixed) << "meshd-weight does not make it healthy";
    EXPECT_FALSE(mapped(status, EurekaStatus::kOutOfService).draining);
  }
}

TEST(EurekaInstance, the_rule_says_which_port_and_one_that_is_off_is_none) {
  const EurekaInstance from{.id = "a", .port = {8080, true}, .secure_port = {8443, true}};
  EXPECT_EQ(to_instance(from, {}).port, 8080);
  EXPECT_EQ(to_instance(from, {.secure = true}).port, 8443);
  EXPECT_EQ(to_instance({.id = "a", .port = {8080, false}}, {}).port, 0);
}

TEST(EurekaInstance, an_address_that_is_none_is_looked_for_in_the_host_name) {
  EXPECT_EQ(to_instance({.host = "10.0.0.9", .address = ""}, {}).address, "10.0.0.9");
  EXPECT_EQ(to_instance({.host = "10.0.0.9", .address = "10.0.0.1"}, {}).address, "10.0.0.1");
  EXPECT_EQ(to_instance({.host = "web", .address = "web.example"}, {}).address, "web.example");
}

TEST(EurekaCredentials, are_written_as_in_the_standard) {
  EXPECT_EQ(basic_authorization("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(basic_authorization("test:123\xc2\xa3"), "Basic dGVzdDoxMjPCow==");
  EXPECT_EQ(basic_authorization("a:b"), "Basic YTpi");
}

}  // namespace
}  // namespace mesh::discovery
