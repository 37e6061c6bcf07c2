// SPDX-License-Identifier: Apache-2.0
#include "health/outlier.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <random>

#include "balance/route.hpp"
#include "base/random.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::health {
namespace {

using namespace std::chrono_literals;
using model::Ejection;

base::SocketAddress endpoint(std::size_t number) {
  return support::address("10.0.0." + std::to_string(number + 1) + ":80");
}

/// One service, a clock, and what its endpoints' connections experience.
class World {
 public:
  explicit World(std::size_t endpoints, model::EjectionPolicy policy = {}) {
    support::ServiceSpec spec{.frontend = "240.0.0.1:80"};
    for (std::size_t i = 0; i < endpoints; ++i) spec.endpoints.emplace_back(endpoint(i).to_string(), 1);
    service_ = std::make_shared<model::Service>(support::service(spec));
    service_->ejection = policy;
    reroute();
  }

  /// Tells what happened in the look that ends now; changes as text, "2 ejected consecutive_failures".
  std::string look(std::vector<Experience> news = {}) {
    const std::vector<ServiceExperience> all = {{service_->frontend, std::move(news)}};
    changes_ = outliers_.look(base::TimePoint(now_), wall(), *routing_, all);
    std::string text;
    for (const EjectionChange& change : changes_) {
      board_.set_ejection(change.frontend, change.endpoint, change.aspect);
      if (change.cause != EjectionCause::kWithheld) state_[change.endpoint] = change.aspect;
      text += fmt::format("{}{} {} {}", text.empty() ? "" : ", ", change.endpoint.ip.bytes[15] - 1,
                          model::to_string(change.aspect.state), to_string(change.cause));
    }
    if (!changes_.empty()) reroute();
    return text;
  }
  void pass(base::Duration time) { now_ += time; }
  [[nodiscard]] base::WallTime wall() const { return base::WallTime(1000h + now_); }
  model::Service& service() { return *service_; }
  /// After the service was changed.
  void reroute() {
    service_ = std::make_shared<model::Service>(*service_);
    for (auto& [frontend, standing] : board_.take_changes()) standing_ = standing;
    auto table = std::make_shared<model::RoutingTable>();
    table->generation = ++generation_;
    table->services = {balance::route_service(service_, nullptr, standing_)};
    routing_ = table;
  }
  [[nodiscard]] const model::ServiceRoute& route() const { return *routing_->services[0]; }
  [[nodiscard]] const EjectionAspect& aspect(std::size_t number) { return state_[endpoint(number)]; }
  EjectionChanges& changes() { return changes_; }
  Outliers& outliers() { return outliers_; }

 private:
  std::shared_ptr<model::Service> service_;
  std::shared_ptr<const model::RoutingTable> routing_;
  std::uint64_t generation_ = 0;
  base::Duration now_ = 1h;
  Outliers outliers_;
  StandingBoard board_;
  model::ServiceStandingPtr standing_;
  std::map<base::SocketAddress, EjectionAspect> state_;
  EjectionChanges changes_;
};

Experience good(std::size_t number, std::uint64_t count = 1) {
  return {.endpoint = endpoint(number), .opened = count, .successes = count};
}

/// `in_row` as the kernel counts it; 0: it does not.
Experience bad(std::size_t number, std::uint64_t count = 1, std::uint64_t in_row = 0,
               Mishap mishap = Mishap::kRefused) {
  Experience news{.endpoint = endpoint(number), .opened = count};
  news.mishaps[static_cast<std::size_t>(mishap)] = count;
  if (in_row > 0) news.in_row = in_row;
  return news;
}

Experience mixed(std::size_t number, std::uint64_t successes, std::uint64_t failures) {
  Experience news = bad(number, failures);
  news.opened += successes;
  news.successes = successes;
  return news;
}

TEST(Outlier, failures_in_a_row_eject) {
  World world(3);
  EXPECT_EQ(world.look({bad(1, 4, 4)}), "");
  EXPECT_EQ(world.look({bad(1, 1, 5)}), "1 ejected consecutive_failures");
  const EjectionAspect& aspect = world.aspect(1);
  EXPECT_EQ(aspect.reason, "5 connections in a row failed (refused)");
  EXPECT_TRUE(aspect.refuses);
  EXPECT_EQ(aspect.until, world.wall() + 30s);
  EXPECT_EQ(world.look({bad(1, 3, 8)}), "");  // said once
  EXPECT_EQ(world.route().routes.size(), 2U);
}

TEST(Outlier, where_the_kernel_counts_no_row_a_success_starts_it_anew) {
  World world(3);
  EXPECT_EQ(world.look({bad(1, 4)}), "");
  EXPECT_EQ(world.look({good(1)}), "");
  EXPECT_EQ(world.look({bad(1, 4)}), "");
  EXPECT_EQ(world.look({bad(1, 1, 0, Mishap::kTimedOut)}), "1 ejected consecutive_failures");
  EXPECT_EQ(world.aspect(1).reason, "5 connections in a row failed (timed out)");
  EXPECT_FALSE(world.aspect(1).refuses);
}

TEST(Outlier, a_row_from_before_is_nothing_without_new_failures) {
  World world(3);
  Experience news = good(1);
  news.in_row = 100;  // a success that the kernel has not written to the row yet
  EXPECT_EQ(world.look({news}), "");
}

TEST(Outlier, the_share_of_failures_in_the_window_ejects) {
  World world(3, {.consecutive_failures = 0});
  EXPECT_EQ(world.look({mixed(0, 9, 9)}), "");  // too few
  world.pass(3s);
  EXPECT_EQ(world.look({good(0, 3)}), "");  // 9 of 21
  world.pass(3s);
  EXPECT_EQ(world.look({bad(0, 3)}), "0 ejected failure_rate");  // 12 of 24
  EXPECT_EQ(world.aspect(0).reason, "50 % of 24 connections in 10s failed (refused)");
  EXPECT_FALSE(world.aspect(0).refuses) << "it takes connections, too";
}

TEST(Outlier, the_window_slides) {
  World world(3, {.consecutive_failures = 0});
  for (int second = 0; second < 60; ++second) {
    EXPECT_EQ(world.look({mixed(0, 1, 1)}), second == 9 ? "0 ejected failure_rate" : "") << second;
    if (second == 9) break;
    world.pass(1s);
  }
  World sparse(3, {.consecutive_failures = 0});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(sparse.look({bad(0)}), "");  // never 20 within ten seconds
    sparse.pass(1s);
  }
}

TEST(Outlier, successes_before_the_trouble_count) {
  World world(3, {.consecutive_failures = 0});
  EXPECT_EQ(world.look({good(0, 100)}), "");
  world.pass(1s);
  EXPECT_EQ(world.look({bad(0, 99)}), "");
  EXPECT_EQ(world.look({bad(0, 1)}), "0 ejected failure_rate");
}

TEST(Outlier, comes_back_by_probation) {
  World world(3);
  EXPECT_EQ(world.look({bad(0, 5, 5)}), "0 ejected consecutive_failures");
  world.pass(30s - 1ms);
  EXPECT_EQ(world.look(), "");
  world.pass(1ms);
  EXPECT_EQ(world.look(), "0 probation time_up");
  EXPECT_EQ(world.route().routes, (std::vector<model::Route>{{0, 10}, {1, 100}, {2, 100}}));
  EXPECT_EQ(world.look({good(0, 4)}), "");
  EXPECT_EQ(world.look({good(0, 1)}), "0 none recovered");
  EXPECT_EQ(world.route().routes, (std::vector<model::Route>{{0, 1}, {1, 1}, {2, 1}}));
}

TEST(Outlier, one_failure_on_probation_puts_it_out_for_longer) {
  World world(3, {.base_time = 30s, .max_time = 80s});
  world.look({bad(0, 5, 5)});
  for (const auto& [time, next] : {std::pair{30s, 60s}, {60s, 80s}, {80s, 80s}}) {
    world.pass(time);
    EXPECT_EQ(world.look(), "0 probation time_up");
    EXPECT_EQ(world.look({bad(0, 1, 6)}), "0 ejected failed_on_probation");
    EXPECT_EQ(world.aspect(0).until - world.wall(), next);
  }
  EXPECT_EQ(world.aspect(0).ejections, 4U);
}

TEST(Outlier, what_was_opened_before_the_ejection_does_not_count_on_probation) {
  World world(3);
  world.look({bad(0, 5, 5, Mishap::kTimedOut)});
  world.pass(30s);
  world.look();
  Experience late = bad(0, 3, 8, Mishap::kTimedOut);
  late.opened = 0;
  EXPECT_EQ(world.look({late}), "");
  EXPECT_EQ(world.look({good(0, 1)}), "");
  Experience opened{.endpoint = endpoint(0), .opened = 1};
  EXPECT_EQ(world.look({opened}), "");
  EXPECT_EQ(world.look({bad(0, 1, 9, Mishap::kTimedOut)}), "0 ejected failed_on_probation");
}

TEST(Outlier, ejections_are_forgotten_in_good_time) {
  World world(3);
  const auto eject_and_recover = [&](base::Duration out) {
    EXPECT_EQ(world.look({bad(0, 5, 5)}), "0 ejected consecutive_failures");
    EXPECT_EQ(world.aspect(0).until - world.wall(), out);
    world.pass(out);
    world.look();
    EXPECT_EQ(world.look({good(0, 5)}), "0 none recovered");
  };
  eject_and_recover(30s);
  eject_and_recover(60s);
  eject_and_recover(90s);
  world.pass(90s);  // one less
  eject_and_recover(90s);
  world.pass(90s + 60s + 30s);
  eject_and_recover(30s);
}

TEST(Outlier, at_most_the_configured_share_is_out_and_the_rest_is_said_once) {
  World world(10, {.max_percent = 30});
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(world.look({bad(i, 5, 5)}), fmt::format("{} ejected consecutive_failures", i));
  EXPECT_EQ(world.look({bad(3, 5, 5)}), "3 none withheld");
  EXPECT_EQ(world.changes()[0].aspect.reason, "5 connections in a row failed (refused)");
  EXPECT_EQ(world.look({bad(3, 1, 6)}), "");
  EXPECT_EQ(world.look({good(3)}), "");
  EXPECT_EQ(world.look({bad(3, 5, 5)}), "3 none withheld");
  world.pass(30s);
  world.look();
  EXPECT_EQ(world.look({good(0, 5)}), "0 none recovered");
  EXPECT_EQ(world.look({bad(3, 1, 7)}), "3 ejected consecutive_failures") << "there is room again";
}

TEST(Outlier, the_last_endpoint_that_is_used_stays) {
  World one(1);
  EXPECT_EQ(one.look({bad(0, 50, 50)}), "");
  World two(2, {.max_percent = 100});
  EXPECT_EQ(two.look({bad(0, 5, 5), bad(1, 5, 5)}), "0 ejected consecutive_failures, 1 none withheld");
  World small(2, {.max_percent = 1});
  EXPECT_EQ(small.look({bad(0, 5, 5)}), "0 ejected consecutive_failures") << "one may always be out";
  World drained(3);
  drained.service().endpoints[1].draining = true;
  drained.service().endpoints[2].weight = 0;
  drained.reroute();
  EXPECT_EQ(drained.look({bad(0, 5, 5)}), "0 none withheld");
}

TEST(Outlier, an_endpoint_that_goes_is_forgotten) {
  World world(3);
  world.look({bad(0, 5, 5), good(1, 100)});
  world.service().endpoints.erase(world.service().endpoints.begin());
  world.reroute();
  EXPECT_EQ(world.look(), "0 none gone");
  EXPECT_EQ(world.look({bad(0, 5, 5)}), "") << "late news of what is no endpoint any more";
}

TEST(Outlier, turning_it_off_brings_everything_back) {
  World world(4);
  world.look({bad(0, 5, 5)});
  world.service().feedback = false;  // without it nothing is counted
  world.reroute();
  EXPECT_EQ(world.look(), "0 none turned_off");
  EXPECT_EQ(world.look({bad(0, 5, 5)}), "");
}

TEST(Outlier, an_earlier_agents_ejection_becomes_probation) {
  World world(3, {.probation_percent = 20});
  const auto change = world.outliers().restore(world.wall(), world.service().frontend, endpoint(2));
  EXPECT_EQ(change.aspect.state, Ejection::kProbation);
  EXPECT_EQ(change.aspect.share_percent, 10U);
  EXPECT_EQ(world.look(), "2 probation share") << "what the service says";
  EXPECT_EQ(world.aspect(2).share_percent, 20U);
  EXPECT_EQ(world.look({bad(2)}), "2 ejected failed_on_probation");
  EXPECT_EQ(world.aspect(2).until - world.wall(), 60s) << "its second in a row";
}

/// Random services, policies and fates; whatever happens, the promises hold.
TEST(OutlierProperty, promises_hold_whatever_happens) {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  base::Random random(seed);
  for (int run = 0; run < 60; ++run) {
    const std::size_t endpoints = 1 + random.below(12);
    const model::EjectionPolicy policy{.consecutive_failures = static_cast<unsigned>(random.below(8)),
                                       .failure_percent = static_cast<unsigned>(random.below(101)),
                                       .window = std::chrono::seconds(1 + random.below(20)),
                                       .min_connections = static_cast<unsigned>(1 + random.below(30)),
                                       .base_time = std::chrono::seconds(1 + random.below(30)),
                                       .max_time = std::chrono::seconds(30 + random.below(60)),
                                       .max_percent = static_cast<unsigned>(1 + random.below(100)),
                                       .probation_percent = static_cast<unsigned>(1 + random.below(50)),
                                       .probation_successes = static_cast<unsigned>(1 + random.below(10))};
    World world(endpoints, policy);
    const std::size_t allowed = std::max<std::size_t>(1, endpoints * policy.max_percent / 100);
    const std::size_t always_good = random.below(endpoints);
    std::vector<EjectionAspect> state(endpoints);
    std::vector<unsigned> failing(endpoints);  // percent of connections
    for (int step = 0; step < 400; ++step) {
      if (random.below(20) == 0) failing[random.below(endpoints)] = static_cast<unsigned>(random.below(101));
      std::vector<Experience> news;
      for (std::size_t i = 0; i < endpoints; ++i) {
        const std::uint64_t connections = state[i].state == Ejection::kEjected ? 0 : random.below(6);
        std::uint64_t failures = 0;
        for (std::uint64_t c = 0; c < connections; ++c) failures += random.below(100) < failing[i];
        if (i == always_good) failures = 0;
        if (connections > 0) news.push_back(mixed(i, connections - failures, failures));
      }
      world.look(std::move(news));
      for (const EjectionChange& change : world.changes()) {
        const auto number = static_cast<std::size_t>(change.endpoint.ip.bytes[15]) - 1;
        EjectionAspect& was = state[number];
        if (change.cause == EjectionCause::kWithheld) {
          EXPECT_EQ(change.aspect.state, was.state);
          continue;
        }
        EXPECT_NE(number, always_good);
        const EjectionAspect& is = change.aspect;
        if (is.state == Ejection::kEjected) {
          EXPECT_NE(was.state, Ejection::kEjected);
          const auto out = is.until - is.since;
          EXPECT_EQ(out, (std::min<base::Duration>(policy.base_time * is.ejections, policy.max_time)));
          EXPECT_LE(is.ejections, was.ejections + 1);
          EXPECT_GE(is.ejections, 1U);
        } else if (is.state == Ejection::kProbation) {
          EXPECT_EQ(was.state, Ejection::kEjected);
          EXPECT_GE(world.wall(), was.until);
          EXPECT_EQ(is.share_percent, policy.probation_percent);
        } else {
          EXPECT_EQ(was.state, Ejection::kProbation);
        }
        was = is;
      }
      const auto held = std::ranges::count_if(state, [](const auto& one) { return one.state != Ejection::kNone; });
      EXPECT_LE(static_cast<std::size_t>(held), allowed);
      EXPECT_FALSE(world.route().routes.empty());
      if (HasFailure()) return;
      world.pass(std::chrono::milliseconds(random.below(4) == 0 ? random.below(20000) : 200));
    }
  }
}

}  // namespace
}  // namespace mesh::health
