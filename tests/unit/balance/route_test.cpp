// SPDX-License-Identifier: Apache-2.0
#include "balance/route.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/routing_builder.hpp"

namespace mesh::balance {
namespace {

using model::Eligibility;
using model::ProbeReason;
using model::Verdict;

struct Case {
  model::Service service = support::service({.frontend = "240.0.0.1:80"});
  model::ServiceHealth health;
  model::ServiceStanding standing;

  Case() {
    service.probe = std::make_shared<const model::ProbePolicy>();
    health.frontend = service.frontend;
  }
  Case& endpoint(Verdict verdict, ProbeReason reason = ProbeReason::kTimeout, std::uint16_t weight = 1,
                 bool draining = false) {
    const auto address = support::address(fmt::format("10.0.0.{}:80", service.endpoints.size() + 1));
    service.endpoints.push_back({address, weight, draining});
    health.endpoints.push_back({.address = address, .verdict = verdict, .reason = reason});
    return *this;
  }
  /// Of the endpoint that was added last.
  Case& stands(model::EndpointStanding what) {
    what.address = service.endpoints.back().address;
    standing.endpoints.push_back(std::move(what));
    return *this;
  }
  Case& require_initial_check() {
    auto probe = std::make_shared<model::ProbePolicy>(*service.probe);
    probe->require_initial_check = true;
    service.probe = probe;
    return *this;
  }
  [[nodiscard]] model::ServiceRoutePtr route() const {
    return route_service(std::make_shared<const model::Service>(service),
                         std::make_shared<const model::ServiceHealth>(health),
                         std::make_shared<const model::ServiceStanding>(standing));
  }
};

TEST(Route, draining_comes_before_weight_and_weight_before_the_probe) {
  const auto route = Case()
                         .endpoint(Verdict::kDown, ProbeReason::kTimeout, 0, true)
                         .endpoint(Verdict::kDown, ProbeReason::kTimeout, 0)
                         .endpoint(Verdict::kDown)
                         .endpoint(Verdict::kUp, ProbeReason::kOk, 7)
                         .route();
  EXPECT_EQ(route->eligibility, (std::vector{Eligibility::kDraining, Eligibility::kWeightZero, Eligibility::kProbeDown,
                                             Eligibility::kEligible}));
  EXPECT_EQ(route->routes, (std::vector<model::Route>{{3, 7}}));
  EXPECT_FALSE(route->panic);
}

TEST(Route, an_endpoint_without_a_verdict_is_used_unless_a_first_check_is_required) {
  Case one;
  one.endpoint(Verdict::kUnknown);
  EXPECT_EQ(one.route()->eligibility[0], Eligibility::kEligible);
  EXPECT_EQ(one.require_initial_check().route()->eligibility[0], Eligibility::kAwaitingCheck);
  EXPECT_TRUE(one.route()->routes.empty());
}

TEST(Route, an_endpoint_newer_than_the_health_view_counts_as_not_checked) {
  Case one;
  one.endpoint(Verdict::kUp).require_initial_check();
  one.service.endpoints.push_back({support::address("10.0.0.99:80"), 1, false});
  EXPECT_EQ(one.route()->eligibility[1], Eligibility::kAwaitingCheck);
  const auto unprobed = route_service(std::make_shared<const model::Service>(one.service), nullptr, nullptr);
  EXPECT_EQ(unprobed->eligibility[0], Eligibility::kAwaitingCheck);
}

TEST(Route, an_old_verdict_means_nothing_once_probing_is_switched_off) {
  Case one;
  one.endpoint(Verdict::kDown);
  one.service.probe = nullptr;
  EXPECT_EQ(one.route()->eligibility[0], Eligibility::kEligible);
}

TEST(Route, panic_uses_endpoints_that_are_down_when_too_few_are_up) {
  Case five;
  five.endpoint(Verdict::kUp).endpoint(Verdict::kUp);
  five.endpoint(Verdict::kDown).endpoint(Verdict::kDown, ProbeReason::kStatus).endpoint(Verdict::kDown);
  const auto route = five.route();
  EXPECT_TRUE(route->panic);
  EXPECT_EQ(route->routes.size(), 5u);
  EXPECT_EQ(route->eligibility[0], Eligibility::kEligible);
  EXPECT_EQ(route->eligibility[2], Eligibility::kPanic);
}

TEST(Route, panic_never_uses_an_endpoint_that_refuses) {
  Case five;
  five.endpoint(Verdict::kUp);
  for (int i = 0; i < 3; ++i) five.endpoint(Verdict::kDown, ProbeReason::kRefused);
  EXPECT_FALSE(five.endpoint(Verdict::kDown, ProbeReason::kRefused).route()->panic);
  const auto route = five.endpoint(Verdict::kDown, ProbeReason::kTimeout).route();
  EXPECT_TRUE(route->panic);
  EXPECT_EQ(route->routes, (std::vector<model::Route>{{0, 1}, {5, 1}}));
  EXPECT_EQ(route->eligibility[1], Eligibility::kProbeDown);
}

TEST(Route, panic_is_off_below_five_endpoints_and_at_the_threshold) {
  Case four;
  for (int i = 0; i < 4; ++i) four.endpoint(Verdict::kDown);
  EXPECT_FALSE(four.route()->panic);
  Case half;
  for (int i = 0; i < 3; ++i) half.endpoint(Verdict::kUp).endpoint(Verdict::kDown);
  EXPECT_FALSE(half.route()->panic) << "50 % are up: that is the threshold, not below it";
  EXPECT_TRUE(half.endpoint(Verdict::kDown).route()->panic);
  half.service.panic_threshold_percent = 0;
  EXPECT_FALSE(half.route()->panic) << "a threshold of 0 switches it off";
}

TEST(Route, panic_counts_only_endpoints_that_could_serve) {
  Case one;
  one.endpoint(Verdict::kUp).endpoint(Verdict::kUp).endpoint(Verdict::kDown).endpoint(Verdict::kDown);
  one.endpoint(Verdict::kDown, ProbeReason::kTimeout, 0).endpoint(Verdict::kDown, ProbeReason::kTimeout, 1, true);
  EXPECT_FALSE(one.route()->panic) << "four could serve: below the minimum";
}

TEST(Route, panic_does_not_break_the_promise_of_a_first_check) {
  Case one;
  one.require_initial_check();
  for (int i = 0; i < 10; ++i) one.endpoint(Verdict::kUnknown);
  EXPECT_TRUE(one.route()->routes.empty());
  EXPECT_FALSE(one.route()->panic);
}

TEST(Route, draining_wins_then_ejected_then_the_probe) {
  const auto route = Case()
                         .endpoint(Verdict::kDown)
                         .stands({.drained = true, .ejection = model::Ejection::kEjected})
                         .endpoint(Verdict::kDown)
                         .stands({.ejection = model::Ejection::kEjected})
                         .endpoint(Verdict::kUp)
                         .stands({.ejection = model::Ejection::kEjected})
                         .endpoint(Verdict::kUp)
                         .route();
  EXPECT_EQ(route->eligibility, (std::vector{Eligibility::kDraining, Eligibility::kEjected, Eligibility::kEjected,
                                             Eligibility::kEligible}));
  EXPECT_EQ(route->routes, (std::vector<model::Route>{{3, 1}}));
}

TEST(Route, a_share_is_taken_of_the_weight_and_is_never_nothing) {
  const auto route = Case()
                         .endpoint(Verdict::kUp)
                         .endpoint(Verdict::kUp)
                         .stands({.ejection = model::Ejection::kProbation, .share_percent = 10})
                         .route();
  EXPECT_EQ(route->routes, (std::vector<model::Route>{{0, 100}, {1, 10}}));
  const auto heavy = Case()
                         .endpoint(Verdict::kUp, ProbeReason::kOk, 65535)
                         .endpoint(Verdict::kUp, ProbeReason::kOk, 1)
                         .stands({.share_percent = 1})
                         .route();
  EXPECT_EQ(heavy->routes, (std::vector<model::Route>{{0, 65535}, {1, 1}}));
}

TEST(Route, panic_uses_ejected_endpoints_but_not_those_that_refuse) {
  Case one;
  one.endpoint(Verdict::kUp);
  for (int i = 0; i < 3; ++i) one.endpoint(Verdict::kUp).stands({.ejection = model::Ejection::kEjected});
  one.endpoint(Verdict::kUp).stands({.ejection = model::Ejection::kEjected, .refuses = true});
  const auto route = one.route();
  EXPECT_TRUE(route->panic);
  EXPECT_EQ(route->routes.size(), 4U);
  EXPECT_EQ(route->eligibility.back(), Eligibility::kEjected);
}

TEST(Router, keeps_the_pointer_of_what_did_not_change) {
  auto snapshot = std::make_shared<model::Snapshot>();
  for (int i = 1; i <= 3; ++i) {
    auto service = support::service({.frontend = fmt::format("240.0.0.{}:80", i), .endpoints = {{"10.0.0.1:80", 1}}});
    service.probe = std::make_shared<const model::ProbePolicy>();
    snapshot->services.push_back(std::make_shared<const model::Service>(service));
  }
  model::HealthView health;
  model::StandingView standing;
  Router router;
  const auto first = router.route(snapshot, health, standing);
  EXPECT_EQ(first->generation, 1u);
  EXPECT_EQ(router.route(snapshot, health, standing), first);

  auto down = std::make_shared<model::ServiceHealth>();
  down->endpoints.push_back({.address = support::address("10.0.0.1:80"), .verdict = Verdict::kDown});
  health[snapshot->services[1]->frontend] = down;
  const auto second = router.route(snapshot, health, standing);
  EXPECT_EQ(second->generation, 2u);
  EXPECT_EQ(second->services[0], first->services[0]);
  EXPECT_NE(second->services[1], first->services[1]);
  EXPECT_TRUE(second->services[1]->routes.empty());
  EXPECT_EQ(second->services[2], first->services[2]);

  auto fewer = std::make_shared<model::Snapshot>(*snapshot);
  fewer->services.erase(fewer->services.begin());
  const auto third = router.route(fewer, health, standing);
  EXPECT_EQ(third->services[0], second->services[1]);
  EXPECT_EQ(third->services[1], second->services[2]);
  const auto fourth = router.route(snapshot, health, standing);
  EXPECT_EQ(fourth->services[1], third->services[0]);
  EXPECT_EQ(fourth->services.size(), 3u);

  auto drained = std::make_shared<model::ServiceStanding>();
  drained->endpoints.push_back({.address = support::address("10.0.0.1:80"), .drained = true});
  standing[snapshot->services[2]->frontend] = drained;
  const auto fifth = router.route(snapshot, health, standing);
  EXPECT_EQ(fifth->services[0], fourth->services[0]);
  EXPECT_TRUE(fifth->services[2]->routes.empty());
}

/// A service with slow start, and the table that a router makes of it.
struct SlowStartCase {
  model::ServicePtr service(int endpoints, std::chrono::seconds slow_start = std::chrono::seconds(30)) const {
    support::ServiceSpec spec{.frontend = "240.0.0.1:80"};
    for (int i = 1; i <= endpoints; ++i) spec.endpoints.emplace_back(fmt::format("10.0.0.{}:80", i), 1);
    auto made = support::service(spec);
    made.slow_start = slow_start;
    return std::make_shared<const model::Service>(made);
  }
  std::vector<int> weights(const model::ServicePtr& wanted) {
    auto snapshot = std::make_shared<model::Snapshot>();
    snapshot->services.push_back(wanted);
    table = router.route(snapshot, {}, standing);
    std::vector<int> weights;
    for (const model::Route& route : table->services[0]->routes) weights.push_back(route.weight);
    return weights;
  }
  void stands(std::vector<model::EndpointStanding> endpoints) {
    auto made = std::make_shared<model::ServiceStanding>();
    made->endpoints = std::move(endpoints);
    standing[table->services[0]->service->frontend] = made;
  }
  Router router;
  model::StandingView standing;
  model::RoutingTablePtr table;
};
using Weights = std::vector<int>;

TEST(Router, a_new_endpoint_starts_slowly_in_the_first_table_it_is_in) {
  SlowStartCase one;
  EXPECT_EQ(one.weights(one.service(2)), (Weights{1, 1})) << "a new service: nothing to spare among equals";
  EXPECT_EQ(one.weights(one.service(3)), (Weights{100, 100, 10}));
  EXPECT_EQ(one.table->services[0]->beginning, std::vector{support::address("10.0.0.3:80")});
  EXPECT_EQ(one.weights(one.service(3)), (Weights{100, 100, 10})) << "until its standing tells of it";
  one.stands({{.address = support::address("10.0.0.3:80"), .share_percent = 50}});
  EXPECT_EQ(one.weights(one.service(3)), (Weights{100, 100, 50}));
  EXPECT_TRUE(one.table->services[0]->beginning.empty());
  one.standing.clear();
  EXPECT_EQ(one.weights(one.service(3)), (Weights{1, 1, 1})) << "it has started";
}

TEST(Router, so_does_one_that_is_back) {
  SlowStartCase one;
  one.weights(one.service(2));
  one.stands({{.address = support::address("10.0.0.2:80"), .drained = true}});
  EXPECT_EQ(one.weights(one.service(2)), Weights{1});
  one.standing.clear();
  EXPECT_EQ(one.weights(one.service(2)), (Weights{100, 10}));
}

TEST(Router, without_slow_start_a_new_endpoint_has_its_weight) {
  SlowStartCase one;
  one.weights(one.service(1, std::chrono::seconds(0)));
  EXPECT_EQ(one.weights(one.service(2, std::chrono::seconds(0))), (Weights{1, 1}));
}

TEST(Router, an_empty_snapshot_is_a_table_too) {
  Router router;
  EXPECT_EQ(router.route(std::make_shared<model::Snapshot>(), {}, {})->generation, 1u);
}

}  // namespace
}  // namespace mesh::balance
