// SPDX-License-Identifier: Apache-2.0
#include "balance/locality.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "balance/route.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::balance {
namespace {

using model::Eligibility;
using model::Preference;

const model::Place kHere{.zone = "a", .node = "a1"};

struct Case {
  model::Service service = support::service({.frontend = "240.0.0.1:80"});
  model::ServiceHealth health;

  explicit Case(Preference prefer) {
    service.prefer = prefer;
    service.probe = std::make_shared<const model::ProbePolicy>();
    service.panic_threshold_percent = 0;
    health.frontend = service.frontend;
  }
  Case& endpoint(const char* zone, const char* node, bool up = true, std::uint16_t weight = 1) {
    const auto number = service.endpoints.size();
    const auto address = support::address(fmt::format("10.0.{}.{}:80", number / 200, number % 200 + 1));
    service.endpoints.push_back({.address = address, .weight = weight, .zone = zone, .node = node});
    health.endpoints.push_back({.address = address, .verdict = up ? model::Verdict::kUp : model::Verdict::kDown});
    return *this;
  }
  Case& endpoints(int count, const char* zone, const char* node, bool up = true) {
    for (int i = 0; i < count; ++i) endpoint(zone, node, up);
    return *this;
  }
  [[nodiscard]] model::ServiceRoutePtr route(const model::Place& here = kHere) const {
    return route_service(std::make_shared<const model::Service>(service),
                         std::make_shared<const model::ServiceHealth>(health), nullptr, here);
  }
  /// Share of connections by zone.
  [[nodiscard]] std::map<std::string, double> by_zone(const model::Place& here = kHere) const {
    const auto routed = route(here);
    double sum = 0;
    for (const model::Route& one : routed->routes) sum += one.weight;
    std::map<std::string, double> shares;
    for (const model::Route& one : routed->routes) shares[service.endpoints[one.endpoint].zone] += one.weight / sum;
    return shares;
  }
};

TEST(Locality, the_zone_gets_all_while_enough_of_it_is_up) {
  Case one(Preference::kZone);
  one.endpoints(4, "a", "a1").endpoint("a", "a2", false).endpoints(5, "b", "b1");
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"a", 1}})) << "80 % are up";
  const auto route = one.route();
  EXPECT_EQ(route->eligibility[4], Eligibility::kProbeDown);
  EXPECT_EQ(route->eligibility[9], Eligibility::kFar);
  EXPECT_EQ(route->routes.front().weight, 1) << "weights stay where no tier is scaled";
}

TEST(Locality, with_less_the_overflow_goes_to_the_others_in_proportion) {
  Case one(Preference::kZone);
  one.endpoints(2, "a", "a1").endpoints(2, "a", "a1", false).endpoints(7, "b", "b1").endpoints(3, "c", "c1");
  auto shares = one.by_zone();
  EXPECT_NEAR(shares["a"], 0.625, 1e-3) << "half is up, of 80 %";
  EXPECT_NEAR(shares["b"], 0.375 * 0.7, 1e-3);
  EXPECT_NEAR(shares["c"], 0.375 * 0.3, 1e-3);
}

TEST(Locality, a_zone_without_anything_up_leaves_all_to_the_others) {
  Case one(Preference::kZone);
  one.endpoints(2, "a", "a1", false).endpoints(2, "b", "b1");
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"b", 1}}));
  Case none(Preference::kZone);
  none.endpoints(2, "a", "a1", false).endpoints(2, "b", "b1", false);
  EXPECT_TRUE(none.route()->routes.empty());
}

TEST(Locality, the_node_comes_before_its_zone_and_the_zone_before_the_rest) {
  Case one(Preference::kNode);
  one.endpoint("a", "a1").endpoint("a", "a2").endpoint("b", "b1");
  EXPECT_EQ(one.route()->routes, (std::vector<model::Route>{{0, 1}}));
  one.health.endpoints[0].verdict = model::Verdict::kDown;
  EXPECT_EQ(one.route()->routes, (std::vector<model::Route>{{1, 1}}));
  one.health.endpoints[1].verdict = model::Verdict::kDown;
  EXPECT_EQ(one.route()->routes, (std::vector<model::Route>{{2, 1}}));
}

TEST(Locality, without_a_place_or_a_preference_all_are_near) {
  for (const Preference prefer : {Preference::kNone, Preference::kZone, Preference::kNode}) {
    Case one(prefer);
    one.endpoint("a", "a1").endpoint("b", "b1").endpoint("", "");
    EXPECT_EQ(one.route({})->routes.size(), 3U);
    if (prefer == Preference::kNone) EXPECT_EQ(one.route()->routes.size(), 3U);
  }
}

TEST(Locality, in_panic_nearness_does_not_count) {
  Case one(Preference::kZone);
  one.service.panic_threshold_percent = 50;
  one.endpoints(2, "a", "a1").endpoints(4, "b", "b1", false);
  EXPECT_TRUE(one.route()->panic);
  EXPECT_EQ(one.route()->routes.size(), 6U);
}

TEST(Locality, shares_are_whole_and_nearer_tiers_never_get_less_for_being_healthier) {
  EXPECT_TRUE(rc::check([] {
    std::vector<Tier> tiers;
    for (unsigned i = 0; i < kDistances; ++i) {
      const auto could = *rc::gen::inRange<std::uint64_t>(0, 100);
      tiers.push_back({*rc::gen::inRange<std::uint64_t>(0, could + 1), could});
    }
    const auto threshold = *rc::gen::inRange(1U, 101U);
    const auto shares = spill_over(tiers, threshold);
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    const bool any = std::ranges::any_of(tiers, [](const Tier& tier) { return tier.usable > 0; });
    RC_ASSERT(std::abs(sum - (any ? 1.0 : 0.0)) < 1e-9);
    for (std::size_t i = 0; i < tiers.size(); ++i) {
      RC_ASSERT(shares[i] >= 0);
      if (tiers[i].usable == 0) RC_ASSERT(shares[i] == 0);
    }
    if (tiers[0].usable == tiers[0].could_serve) return;
    auto better = tiers;
    ++better[0].usable;
    RC_ASSERT(spill_over(better, threshold)[0] >= shares[0] - 1e-9);
  }));
}

TEST(Locality, a_usable_endpoint_is_routed_to_or_far_and_somebody_is_used) {
  EXPECT_TRUE(rc::check([] {
    Case one(*rc::gen::element(Preference::kZone, Preference::kNode));
    one.service.prefer_threshold_percent = *rc::gen::inRange(1U, 101U);
    const auto count = *rc::gen::inRange(1, 12);
    for (int i = 0; i < count; ++i) {
      one.endpoint(*rc::gen::element("a", "b", ""), *rc::gen::element("a1", "a2", ""), *rc::gen::arbitrary<bool>(),
                   *rc::gen::element<std::uint16_t>(1, 7, 65535));
    }
    const auto route = one.route();
    std::size_t usable = 0;
    std::size_t far = 0;
    for (const Eligibility eligibility : route->eligibility) {
      usable += eligibility == Eligibility::kEligible;
      far += eligibility == Eligibility::kFar;
    }
    RC_ASSERT(route->routes.size() == usable);
    RC_ASSERT(usable + far == 0 || usable > 0);
    for (const model::Route& routed : route->routes) RC_ASSERT(routed.weight > 0);
  }));
}

TEST(Tiers, the_next_tier_is_used_for_what_those_before_cannot_carry) {
  const auto shares = [](int up, int down) {
    Case one(Preference::kNone);
    one.endpoints(up, "first", "").endpoints(down, "first", "", false).endpoints(4, "second", "");
    for (model::Endpoint& endpoint : one.service.endpoints) endpoint.tier = endpoint.zone == "second" ? 3 : 0;
    return one.by_zone();
  };
  EXPECT_EQ(shares(4, 1), (std::map<std::string, double>{{"first", 1}})) << "80 % are up";
  EXPECT_EQ(shares(0, 4), (std::map<std::string, double>{{"second", 1}}));
  EXPECT_NEAR(shares(2, 2)["second"], 0.375, 1e-3) << "half is up, of 80 %";
}

TEST(Tiers, come_before_nearness_and_nearness_within_each) {
  Case one(Preference::kZone);
  one.endpoint("b", "").endpoint("a", "");
  one.service.endpoints[1].tier = 1;
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"b", 1}})) << "near, but of the second tier";
  one.endpoint("a", "");
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"a", 1}}));
  EXPECT_EQ(one.route()->eligibility[0], Eligibility::kFar);
}

TEST(Tiers, a_sound_second_tier_is_no_reason_to_panic) {
  Case one(Preference::kNone);
  one.service.panic_threshold_percent = 50;
  one.endpoints(8, "first", "", false).endpoints(2, "second", "");
  EXPECT_TRUE(one.route()->panic) << "2 of 10 in one tier";
  for (std::size_t i = 8; i < 10; ++i) one.service.endpoints[i].tier = 1;
  EXPECT_FALSE(one.route()->panic);
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"second", 1}}));
}

TEST(Confirmation, only_what_its_probe_says_is_up_is_used_and_panic_does_not_help) {
  Case one(Preference::kNone);
  one.endpoints(1, "up", "").endpoints(5, "down", "", false).endpoint("unknown", "");
  one.health.endpoints.pop_back();
  one.service.panic_threshold_percent = 100;
  EXPECT_TRUE(one.route()->panic);
  one.service.only_confirmed = true;
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"up", 1}}));
  EXPECT_EQ(one.route()->eligibility[1], Eligibility::kUnconfirmed);
  EXPECT_EQ(one.route()->eligibility[6], Eligibility::kUnconfirmed);
  one.service.probe = nullptr;
  EXPECT_TRUE(one.route()->routes.empty()) << "nothing can confirm it";
  one.service.parts = {{"old", "", true}, {"fresh", "", false}};
  one.service.endpoints[1].part = 1;
  EXPECT_EQ(one.by_zone(), (std::map<std::string, double>{{"down", 1}})) << "another source speaks for that one";
}

}  // namespace
}  // namespace mesh::balance
