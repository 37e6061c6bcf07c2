// SPDX-License-Identifier: Apache-2.0
#include "health/slow_start.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/routing_builder.hpp"

namespace mesh::health {
namespace {

using model::Eligibility;
using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

const char* const kFrontend = "240.0.0.1:80";

StartShare share(int endpoint, unsigned percent) {
  return {{support::address(kFrontend), model::Protocol::kTcp},
          support::address(fmt::format("10.0.0.{}:80", endpoint)),
          percent};
}

struct World {
  base::TimePoint now{1h};
  SlowStart slow_start;
  std::uint64_t generation = 0;
  std::vector<base::SocketAddress> beginning;  ///< That the router says.

  /// Endpoints 1, 2, ... with these eligibilities.
  std::vector<StartShare> routed(std::vector<Eligibility> eligibility, std::chrono::seconds slow = 30s) {
    support::ServiceSpec spec{.frontend = kFrontend};
    for (std::size_t i = 1; i <= eligibility.size(); ++i)
      spec.endpoints.emplace_back(fmt::format("10.0.0.{}:80", i), 1);
    model::ServiceRoute route = *support::route(spec);
    model::Service service = *route.service;
    service.slow_start = slow;
    route.service = std::make_shared<const model::Service>(service);
    route.eligibility = std::move(eligibility);
    route.beginning = beginning;
    return look(support::table({std::make_shared<const model::ServiceRoute>(route)}, ++generation));
  }
  std::vector<StartShare> look(model::RoutingTablePtr table) {
    routing = std::move(table);
    return slow_start.look(now, routing);
  }
  std::vector<StartShare> after(base::Duration time) {
    now += time;
    return slow_start.look(now, routing);
  }
  model::RoutingTablePtr routing;
};

constexpr auto kUp = Eligibility::kEligible;
constexpr auto kDown = Eligibility::kProbeDown;

TEST(SlowStart, a_share_grows_in_steps_and_is_never_nothing) {
  EXPECT_EQ(start_percent(0s, 30s), 10U);
  EXPECT_EQ(start_percent(5900ms, 30s), 10U);
  EXPECT_EQ(start_percent(6s, 30s), 20U);
  EXPECT_EQ(start_percent(29999ms, 30s), 90U);
  EXPECT_EQ(start_percent(30s, 30s), 100U);
  EXPECT_EQ(start_percent(-1s, 30s), 10U);
}

TEST(SlowStart, all_that_are_there_at_first_sight_have_started) {
  World world;
  EXPECT_THAT(world.routed({kUp, kUp, kDown}), IsEmpty());
}

TEST(SlowStart, a_new_endpoint_starts_slowly) {
  World world;
  world.routed({kUp});
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(2, 10)));
  EXPECT_THAT(world.after(1s), IsEmpty());
  EXPECT_THAT(world.after(5s), ElementsAre(share(2, 20)));
  EXPECT_THAT(world.routed({kUp, kUp}), IsEmpty()) << "another table, nothing new";
  EXPECT_THAT(world.after(24s), ElementsAre(share(2, 100)));
  EXPECT_THAT(world.after(1h), IsEmpty());
}

TEST(SlowStart, so_does_one_that_is_back) {
  World world;
  world.routed({kUp, kDown});
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(2, 10)));
  EXPECT_THAT(world.after(15s), ElementsAre(share(2, 50)));
  EXPECT_THAT(world.routed({kUp, kDown}), IsEmpty());
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(2, 10))) << "from the beginning";
}

TEST(SlowStart, who_goes_leaves_nothing_behind) {
  World world;
  world.routed({kUp});
  world.routed({kUp, kUp, kUp});
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(3, 100)));
  EXPECT_THAT(world.routed({kUp, kUp}, 0s), ElementsAre(share(2, 100))) << "switched off";
  world.routed({kUp, kUp});
  world.routed({kUp, kUp, kUp});
  EXPECT_THAT(world.look(support::table({}, 99)), ElementsAre(share(3, 100)));
}

TEST(SlowStart, what_the_router_began_is_gone_on_with) {
  World world;
  world.routed({kUp});
  world.beginning = {share(2, 10).endpoint};
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(2, 10)));
  EXPECT_THAT(world.routed({kUp, kUp}), IsEmpty()) << "said already";
  EXPECT_THAT(world.after(15s), ElementsAre(share(2, 50)));
  EXPECT_THAT(world.after(15s), ElementsAre(share(2, 100)));
  // It went and came back between two looks: only the router saw that.
  EXPECT_THAT(world.routed({kUp, kUp}), ElementsAre(share(2, 10)));
}

TEST(SlowStart, without_it_there_is_nothing_to_do) {
  World world;
  world.routed({kUp}, 0s);
  EXPECT_THAT(world.routed({kUp, kUp}, 0s), IsEmpty());
  EXPECT_THAT(world.slow_start.look(world.now, nullptr), IsEmpty());
}

}  // namespace
}  // namespace mesh::health
