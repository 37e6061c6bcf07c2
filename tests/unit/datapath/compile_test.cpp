// SPDX-License-Identifier: Apache-2.0
#include "datapath/compile.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "datapath/records.hpp"
#include "tests/support/fake_map_store.hpp"
#include "tests/support/plan_world.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::datapath {
namespace {

using model::Algorithm;
using support::ServiceSpec;
using testing::ElementsAre;
using testing::HasSubstr;

const ServiceSpec kOrders{.frontend = "240.0.0.1:80",
                          .endpoints = {{"10.0.0.1:80", 1}, {"10.0.0.2:80", 1}},
                          .algorithm = Algorithm::kRoundRobin};

ServiceSpec with_endpoints(std::vector<std::pair<std::string, std::uint16_t>> endpoints) {
  ServiceSpec spec = kOrders;
  spec.endpoints = std::move(endpoints);
  return spec;
}

struct Bench {
  explicit Bench(const TableSizes& sizes = {.services = 8, .ranges = 16, .slots = 64, .backends = 16}) : store(sizes) {
    restart();
  }
  void restart() { compiler.emplace(std::move(*Compiler::recover(store))); }
  base::Result<Plan> apply(std::vector<model::ServiceRoutePtr> services) {
    auto plan = compiler->compile(support::table(std::move(services)));
    if (plan) EXPECT_TRUE(datapath::apply(*plan, store));
    return plan;
  }
  void release(const std::unordered_set<std::uint32_t>& named = {}) {
    EXPECT_TRUE(datapath::apply(compiler->release(compiler->seal(), &named), store));
  }
  [[nodiscard]] std::string read(const char* frontend) const {
    return support::FakeReader(store, {support::address(frontend), model::Protocol::kTcp}).finish();
  }

  support::FakeMapStore store;
  std::optional<Compiler> compiler;
};

TEST(Compile, a_new_service_is_written_backends_first_and_frontend_last) {
  Bench bench;
  const auto plan = bench.apply({support::route(kOrders)});
  EXPECT_THAT(plan->describe(), ElementsAre("backend 1: 10.0.0.1:80 of service 1, weight 1, generation 1, usable",
                                            "backend 2: 10.0.0.2:80 of service 1, weight 1, generation 1, usable",
                                            "slots 0 to 1: written",
                                            "range 2: 2 entries of service 1 from slot 0, round_robin, affinity 0 s",
                                            "service 1: 240.0.0.1:80/tcp", "service 1: state <- generation 1, range 2",
                                            "frontend 240.0.0.1:80/tcp: added as service 1"));
  EXPECT_EQ(plan->changes.added, 1u);
}

TEST(Compile, an_endpoint_that_goes_loses_usable_only_after_the_state_stopped_using_it) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  const auto plan = bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}, {"10.0.0.3:80", 1}}))});
  EXPECT_THAT(plan->describe(), ElementsAre("backend 3: 10.0.0.3:80 of service 1, weight 1, generation 1, usable",
                                            "slots 2 to 3: written",
                                            "range 3: 2 entries of service 1 from slot 2, round_robin, affinity 0 s",
                                            "service 1: state <- generation 2, range 3",
                                            "backend 1: 10.0.0.1:80 of service 1, weight 1, generation 1, not usable"));
}

TEST(Compile, a_service_that_goes_loses_its_frontend_and_keeps_its_table_through_the_quarantine) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  EXPECT_THAT(bench.apply({})->describe(), ElementsAre("frontend 240.0.0.1:80/tcp: removed"));
  EXPECT_EQ(range_of(bench.store.state(1)), 2u);
  EXPECT_EQ(bench.compiler->usage().services.quarantined, 1u);
  bench.release();
  EXPECT_EQ(bench.store.state(1), 0u);
  EXPECT_EQ(bench.store.backend(1).service_id, 0u);
  EXPECT_EQ(bench.compiler->usage().services.quarantined, 0u);
  EXPECT_EQ(bench.compiler->usage().largest_free_run, 64u);
}

TEST(Compile, a_service_without_usable_backends_shares_the_empty_range) {
  Bench bench;
  bench.apply({support::route(with_endpoints({{"10.0.0.1:80", 0}}))});
  EXPECT_EQ(range_of(bench.store.state(1)), MESH_RANGE_EMPTY);
  EXPECT_EQ(bench.read("240.0.0.1:80"), "refused");
  EXPECT_EQ(bench.compiler->usage().ranges.used, 0u);
}

TEST(Compile, what_the_relay_takes_is_marked_so_and_a_pause_outlives_the_change) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  mesh_service paused = bench.store.service(1);
  paused.pass_until_ns = MESH_FOREVER;
  ASSERT_TRUE(bench.store.write_service(1, paused));
  auto route = std::make_shared<model::ServiceRoute>(*support::route(with_endpoints({{"127.0.0.1:15400", 1}})));
  auto service = std::make_shared<model::Service>(*route->service);
  service->relay_listeners = true;
  route->service = service;
  bench.apply({route});
  EXPECT_EQ(bench.store.service(1).flags, MESH_SERVICE_IN_USE | MESH_SERVICE_TLS);
  EXPECT_EQ(bench.store.service(1).pass_until_ns, MESH_FOREVER);
  EXPECT_EQ(bench.store.backend(3).flags, MESH_BACKEND_USABLE | MESH_BACKEND_RELAY);
  bench.apply({support::route(kOrders)});
  EXPECT_EQ(bench.store.service(1).flags, MESH_SERVICE_IN_USE);
}

TEST(Compile, an_unchanged_table_writes_nothing_whether_its_pointers_are_kept_or_not) {
  Bench bench;
  const auto route = support::route(kOrders);
  bench.apply({route});
  EXPECT_TRUE(bench.apply({route})->empty());
  EXPECT_TRUE(bench.apply({support::route(kOrders)})->empty());
  bench.restart();
  EXPECT_TRUE(bench.apply({support::route(kOrders)})->empty());
}

TEST(Compile, weights_in_the_same_proportion_change_the_backends_records_but_not_the_table) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  const auto plan = bench.apply({support::route(with_endpoints({{"10.0.0.1:80", 5}, {"10.0.0.2:80", 5}}))});
  EXPECT_THAT(plan->describe(), ElementsAre(HasSubstr("backend 1: "), HasSubstr("backend 2: ")));
}

TEST(Compile, a_share_of_a_weight_is_what_the_kernel_compares_by) {
  Bench bench;
  model::ServiceRoute route = *support::route(kOrders);
  route.routes = {{0, 100}, {1, 10}};
  const auto plan = bench.apply({std::make_shared<const model::ServiceRoute>(route)});
  EXPECT_THAT(plan->describe(), testing::Contains(HasSubstr("10.0.0.2:80 of service 1, weight 10, ")));
}

TEST(Compile, an_endpoint_that_comes_back_in_time_has_its_old_id) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}}))});
  bench.apply({support::route(kOrders)});
  EXPECT_THAT(bench.compiler->ids()->backend_ids, ElementsAre(1, 2));
  bench.release();
  EXPECT_THAT(bench.compiler->ids()->backend_ids, ElementsAre(1, 2));
  EXPECT_EQ(bench.compiler->usage().backends.used, 2u);
  EXPECT_NE(bench.store.backend(1).service_id, 0u) << "it was given up once, but is in force again";
}

TEST(Compile, an_endpoint_that_goes_twice_waits_for_the_second_grace_period) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}}))});
  const std::uint32_t first = bench.compiler->seal();
  const std::unordered_set<std::uint32_t> none;
  bench.apply({support::route(kOrders)});
  bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}}))});
  EXPECT_TRUE(datapath::apply(bench.compiler->release(first, &none), bench.store));
  EXPECT_EQ(bench.store.backend(1).service_id, 1u);
  bench.release();
  EXPECT_EQ(bench.store.backend(1).service_id, 0u);
}

TEST(Compile, a_reused_backend_id_has_the_next_generation_also_after_a_restart) {
  Bench bench({.services = 8, .ranges = 16, .slots = 64, .backends = 3});
  bench.apply({support::route(kOrders)});
  bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}}))});
  bench.release();
  bench.restart();
  bench.apply({support::route(with_endpoints({{"10.0.0.2:80", 1}, {"10.0.0.3:80", 1}}))});
  EXPECT_EQ(address_of(bench.store.backend(1)).to_string(), "10.0.0.3:80");
  EXPECT_EQ(bench.store.backend(1).generation, 2u);
}

TEST(Compile, ids_that_sockets_name_are_not_released_and_keep_their_service_id_busy) {
  Bench bench;
  bench.apply({support::route(kOrders)});
  bench.apply({});
  bench.release(/*named=*/{2});
  EXPECT_EQ(bench.store.backend(1).service_id, 0u);
  EXPECT_EQ(bench.store.backend(2).service_id, 1u);
  EXPECT_EQ(bench.compiler->waiting_for_sockets(), 1u);
  EXPECT_EQ(bench.compiler->usage().services.quarantined, 1u);
  EXPECT_EQ(bench.compiler->usage().slots.quarantined, 0u);
  EXPECT_TRUE(bench.compiler->release(0, nullptr).empty()) << "nobody has looked at the sockets";
  bench.release();
  EXPECT_EQ(bench.store.backend(2).service_id, 0u);
  EXPECT_EQ(bench.compiler->usage().services.quarantined, 0u);
}

// ---- limits (I6)

struct LimitCase {
  const char* description;
  TableSizes sizes;
  const char* map;
};

class CompileLimits : public testing::TestWithParam<LimitCase> {};

TEST_P(CompileLimits, a_full_map_is_named_with_need_size_and_setting_and_the_old_state_stays) {
  Bench bench(GetParam().sizes);
  ASSERT_TRUE(bench.apply({support::route(kOrders)}));
  const Usage before = bench.compiler->usage();
  const std::string old_table = bench.read("240.0.0.1:80");
  const std::uint64_t writes = bench.store.writes();

  std::vector<model::ServiceRoutePtr> many;
  for (int i = 1; i <= 3; ++i) {
    ServiceSpec spec = with_endpoints({{"10.0.0.7:80", 1}, {"10.0.0.8:80", 2}, {"10.0.0.9:80", 3}});
    spec.frontend = fmt::format("240.0.0.{}:80", i);
    many.push_back(support::route(spec));
  }
  for (int again = 0; again < 2; ++again) {
    const auto refused = bench.apply(many);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, base::ErrorKind::kExhausted);
    EXPECT_THAT(refused.error().message, HasSubstr(fmt::format("map '{}' is full", GetParam().map)));
    EXPECT_THAT(refused.error().remedy, HasSubstr(fmt::format("agent.limits.{}", GetParam().map)));
    EXPECT_FALSE(bench.compiler->fits(*support::table(many)));
  }
  EXPECT_EQ(bench.store.writes(), writes);
  EXPECT_EQ(bench.read("240.0.0.1:80"), old_table);
  const Usage after = bench.compiler->usage();
  EXPECT_EQ(after.services.used, before.services.used);
  EXPECT_EQ(after.backends.quarantined, before.backends.quarantined);
  EXPECT_EQ(after.largest_free_run, before.largest_free_run);
  EXPECT_TRUE(bench.apply({support::route(kOrders)})->empty());
}

INSTANTIATE_TEST_SUITE_P(
    Maps, CompileLimits,
    testing::Values(
        LimitCase{"ids of services", {.services = 3, .ranges = 64, .slots = 999, .backends = 99}, "services"},
        LimitCase{"ranges", {.services = 99, .ranges = 4, .slots = 999, .backends = 99}, "ranges"},
        LimitCase{"slots", {.services = 99, .ranges = 99, .slots = 17, .backends = 99}, "slots"},
        LimitCase{"ids of backends", {.services = 99, .ranges = 99, .slots = 999, .backends = 9}, "backends"}),
    [](const auto& info) { return std::string(info.param.map); });

TEST(Compile, says_so_when_only_the_update_does_not_fit) {
  Bench bench({.services = 8, .ranges = 16, .slots = 3, .backends = 16});
  bench.apply({support::route(kOrders)});
  const auto refused = bench.apply({support::route(with_endpoints({{"10.0.0.1:80", 1}, {"10.0.0.3:80", 1}}))});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().to_string(),
            "apply 1 services: map 'slots' is full: 2 needed, 3 usable, 2 in use, 0 in quarantine, largest free run 1; "
            "old and new stand beside each other during an update: set agent.limits.slots above 4 and restart; the "
            "tables in force stay");
}

// ---- faults

TEST(Apply, tries_again_when_interrupted_but_not_for_ever) {
  Bench bench;
  const auto plan = bench.compiler->compile(support::table({support::route(kOrders)}));
  bench.store.fail(2, EINTR, kInterruptedTriesMax - 1);
  EXPECT_TRUE(datapath::apply(*plan, bench.store));
  bench.store.fail(0, EINTR, kInterruptedTriesMax);
  const auto failed = datapath::apply(*plan, bench.store);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().errnum, EINTR);
}

TEST(Apply, a_failure_at_any_write_leaves_a_state_from_which_the_rest_is_found) {
  const auto before = support::table({support::route(kOrders)});
  ServiceSpec cache = kOrders;
  cache.frontend = "240.0.0.2:80";
  const auto after =
      support::table({support::route(with_endpoints({{"10.0.0.2:80", 3}, {"10.0.0.4:80", 1}})), support::route(cache)});
  std::size_t ops = 1;
  for (std::size_t failing = 0; failing < ops; ++failing) {
    Bench bench;
    ASSERT_TRUE(bench.apply(before->services));
    const auto plan = bench.compiler->compile(after);
    ops = plan->size();
    bench.store.fail(failing, ENOSPC);
    EXPECT_FALSE(datapath::apply(*plan, bench.store));
    bench.restart();
    bench.release();
    const auto rest = bench.compiler->compile(after);
    EXPECT_FALSE(rest->empty());
    EXPECT_TRUE(datapath::apply(*rest, bench.store));
    for (const auto& route : after->services) {
      EXPECT_EQ(bench.read(route->service->frontend.address.to_string().c_str()), support::reader_text(*route));
    }
    EXPECT_TRUE(drift(bench.store, after)->empty()) << "write " << failing;
  }
  EXPECT_GT(ops, 8u);
}

// ---- tables that someone else wrote into

TEST(Recover, foreign_and_damaged_elements_are_found_and_repaired) {
  Bench bench;
  const auto want = support::table({support::route(kOrders)});
  const auto damages = std::vector<std::pair<const char*, std::function<void()>>>{
      {"a slot of another service",
       [&] {
         const mesh_slot slot{1, 7};
         ASSERT_TRUE(bench.store.write_slots(bench.store.range(range_of(bench.store.state(1))).base, {&slot, 1}));
       }},
      {"a state of zero", [&] { ASSERT_TRUE(bench.store.store_state(1, 0)); }},
      {"a range outside the map", [&] { ASSERT_TRUE(bench.store.store_state(1, 9999)); }},
      {"a range outside the arena",
       [&] {
         mesh_range range = bench.store.range(range_of(bench.store.state(1)));
         range.base = 0xfffffff0;
         ASSERT_TRUE(bench.store.write_range(range_of(bench.store.state(1)), range));
       }},
      {"a backend that is not usable",
       [&] {
         mesh_backend backend = bench.store.backend(bench.compiler->ids()->backend_ids[0]);
         backend.flags = 0;
         ASSERT_TRUE(bench.store.write_backend(bench.compiler->ids()->backend_ids[0], backend));
       }},
      {"a frontend that nobody wants",
       [&] {
         ASSERT_TRUE(bench.store.write_frontend(key_of({support::address("240.0.0.9:80"), model::Protocol::kTcp}), 1));
       }},
      {"a frontend with an id outside the map",
       [&] {
         ASSERT_TRUE(bench.store.write_frontend(key_of({support::address("240.0.0.9:80"), model::Protocol::kTcp}), 99));
       }},
      {"two backends of one identity",
       [&] {
         mesh_backend backend = bench.store.backend(bench.compiler->ids()->backend_ids[0]);
         backend.flags = 0;
         ASSERT_TRUE(bench.store.write_backend(15, backend));
       }},
  };
  for (const auto& [description, damage] : damages) {
    ASSERT_TRUE(bench.apply(want->services)) << description;
    damage();
    bench.restart();
    ASSERT_TRUE(bench.apply(want->services)) << description;
    bench.release();
    EXPECT_EQ(bench.read("240.0.0.1:80"), support::reader_text(*want->services[0])) << description;
    EXPECT_EQ(bench.read("240.0.0.9:80"), "not a service") << description;
    EXPECT_TRUE(drift(bench.store, want)->empty()) << description;
    EXPECT_EQ(bench.compiler->usage().backends.used, 2u) << description;
    EXPECT_EQ(bench.compiler->usage().backends.quarantined, 0u) << description;
  }
}

}  // namespace
}  // namespace mesh::datapath
