// SPDX-License-Identifier: Apache-2.0
#include "app/plaintext_keeper.hpp"

#include <gtest/gtest.h>

#include "app/check.hpp"
#include "base/rfc3339.hpp"

namespace mesh::app {
namespace {

using namespace std::chrono_literals;
using datapath::GuardedEndpoint;
using datapath::GuardedEndpoints;
using relay::Plaintext;

const base::WallTime kEnd = base::parse_rfc3339("2027-01-01T00:00:00Z").value();

base::SocketAddress at(std::string_view text) { return base::SocketAddress::parse(text).value(); }

api::RelayService routed(const std::string& name, std::vector<std::string> members) {
  return {.name = name, .full_name = name + ":80", .members = std::move(members)};
}
relay::MeshService permissive(const std::string& name) {
  return {.service = name, .plaintext = Plaintext::kPermissive, .permissive_until = "2026-12-31"};
}
std::uint32_t number_of(const std::string& service) { return static_cast<std::uint32_t>(service.front()); }

TEST(PlaintextPlan, says_the_kernel_the_end_by_its_own_clock) {
  relay::MeshSettings mesh;
  mesh.services = {permissive("web"), {.service = "shop", .plaintext = Plaintext::kRefuse}, {.service = "other"}};
  const std::vector<api::RelayService> services = {routed("web", {"10.0.0.1:80", "10.0.0.2:80"}),
                                                   routed("shop", {"10.0.0.3:80"}), routed("other", {"10.0.0.4:80"})};
  const auto plan = plan_plaintext(mesh, services, number_of, {kEnd - 1h, 5min}, {});
  EXPECT_EQ(plan.guarded, (GuardedEndpoints{{at("10.0.0.1:80"), {1h + 5min, 'w'}},
                                            {at("10.0.0.2:80"), {1h + 5min, 'w'}},
                                            {at("10.0.0.3:80"), {0s, 's'}}}));
  ASSERT_EQ(plan.services.size(), 2U);
  EXPECT_EQ(plan.services[0].service, "web:80");
  EXPECT_TRUE(plan.services[0].taken);
  EXPECT_EQ(plan.services[0].ends_in_s, 3600.0);
  EXPECT_FALSE(plan.services[1].taken);
  EXPECT_EQ(plan.services[1].ends_in_s, std::nullopt);
  const auto over = plan_plaintext(mesh, services, number_of, {kEnd + 1h, 5min}, {});
  EXPECT_EQ(over.guarded.at(at("10.0.0.1:80")).until, 0s);
  EXPECT_EQ(over.services[0].ends_in_s, -3600.0);
}

TEST(PlaintextPlan, an_endpoint_of_two_services_is_judged_by_the_strictest) {
  relay::MeshSettings mesh;
  const std::vector<api::RelayService> services = {routed("web", {"10.0.0.1:80"}), routed("shop", {"10.0.0.1:80"})};
  const relay::MeshService strict{.service = "shop", .plaintext = Plaintext::kRefuse};
  for (const auto& order : {std::vector{permissive("web"), strict}, std::vector{strict, permissive("web")}}) {
    mesh.services = order;
    EXPECT_EQ(plan_plaintext(mesh, services, number_of, {kEnd - 1h, 0s}, {}).guarded,
              (GuardedEndpoints{{at("10.0.0.1:80"), {0s, 's'}}}));
  }
}

TEST(PlaintextPlan, clocks_that_differ_a_little_change_nothing_and_one_that_is_set_does) {
  relay::MeshSettings mesh;
  mesh.services = {permissive("web")};
  const std::vector<api::RelayService> services = {routed("web", {"10.0.0.1:80"})};
  const auto before = plan_plaintext(mesh, services, number_of, {kEnd - 1h, 5min}, {}).guarded;
  EXPECT_EQ(plan_plaintext(mesh, services, number_of, {kEnd - 59min, 6min + 3ms}, before).guarded, before);
  EXPECT_NE(plan_plaintext(mesh, services, number_of, {kEnd - 30min, 6min}, before).guarded, before);
}

TEST(PlaintextPlan, a_service_that_is_not_known_is_shown_and_guards_nothing) {
  relay::MeshSettings mesh;
  mesh.services = {permissive("web")};
  const auto plan =
      plan_plaintext(mesh, {{.name = "web", .error = "there is no service web"}}, number_of, {kEnd - 1h, 0s}, {});
  EXPECT_TRUE(plan.guarded.empty());
  ASSERT_EQ(plan.services.size(), 1U);
  EXPECT_EQ(plan.services[0].service, "web");
}

TEST(CheckPlaintext, says_how_long_it_holds_and_who_probes_with_it) {
  Config config;
  config.relay.mesh.services = {permissive("web")};
  const auto states = [&](base::WallTime now) {
    std::vector<std::string> states;
    for (const auto& item : check_plaintext(config, now)) states.push_back(item.state + " " + item.detail);
    return states;
  };
  using States = std::vector<std::string>;
  EXPECT_EQ(states(kEnd - 720h), States{"ok is taken until 2027-01-01T00:00:00.000Z, for 30d0h"});
  EXPECT_EQ(states(kEnd - 240h), States{"warn is taken until 2027-01-01T00:00:00.000Z, for 10d0h"});
  EXPECT_EQ(states(kEnd), States{"ok is refused since 2027-01-01T00:00:00.000Z"});
  auto service = std::make_shared<model::Service>();
  service->name = "web";
  service->probe = std::make_shared<const model::ProbePolicy>();
  config.services = {service};
  EXPECT_EQ(states(kEnd).at(1), "warn probes by other nodes are plaintext, too");
}

}  // namespace
}  // namespace mesh::app
