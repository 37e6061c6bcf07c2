// SPDX-License-Identifier: Apache-2.0
#include "datapath/writer.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <unordered_set>

#include "tests/support/fake_map_store.hpp"
#include "tests/support/plan_world.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::datapath {
namespace {

using model::Algorithm;
using support::ServiceSpec;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Grace periods that pass at once, or fail.
class InstantGrace final : public Grace {
 public:
  base::Result<void> wait() override {
    ++periods;
    if (broken) return base::fail(base::ErrorKind::kUnsupported, "wait for a grace period: not here");
    return {};
  }
  [[nodiscard]] std::string_view name() const override { return "instant"; }

  std::atomic<int> periods = 0;
  std::atomic<bool> broken = false;
};

model::RoutingTablePtr services(int first, int count, int endpoints, std::uint64_t generation,
                                std::uint16_t weight = 1) {
  std::vector<model::ServiceRoutePtr> routes;
  for (int i = first; i < first + count; ++i) {
    ServiceSpec spec{.frontend = fmt::format("240.0.0.{}:80", i + 1), .algorithm = Algorithm::kRoundRobin};
    for (int e = 0; e < endpoints; ++e) {
      spec.endpoints.emplace_back(fmt::format("10.0.{}.{}:80", i, e + 1),
                                  static_cast<std::uint16_t>(e == 0 ? weight : 1));
    }
    routes.push_back(support::route(spec));
  }
  return support::table(std::move(routes), generation);
}

struct WriterTest : testing::Test {
  void open(const TableSizes& sizes) {
    store = std::make_unique<support::FakeMapStore>(sizes);
    reopen();
  }
  void reopen() {
    writer.reset();
    auto opened = Writer::open(*store, grace, [this]() -> base::Result<std::unordered_set<std::uint32_t>> {
      const std::lock_guard lock(mutex);
      return named;
    });
    ASSERT_TRUE(opened) << opened.error().to_string();
    writer = std::move(*opened);
  }
  void expect_in_force(const model::RoutingTablePtr& table) {
    for (const auto& route : table->services) {
      EXPECT_EQ(support::FakeReader(*store, route->service->frontend).finish(), support::reader_text(*route));
    }
    const auto lines = writer->diff(table);
    ASSERT_TRUE(lines);
    EXPECT_THAT(*lines, IsEmpty());
  }
  /// Until the side thread has nothing left to do.
  void drain() {
    while (writer->usage().slots.quarantined > 0 || writer->usage().backends.quarantined > named.size()) {
      ASSERT_TRUE(writer->tidy());
    }
  }

  std::shared_ptr<InstantGrace> grace = std::make_shared<InstantGrace>();
  std::mutex mutex;
  std::unordered_set<std::uint32_t> named;  // guarded by mutex: the side thread asks for it
  std::unique_ptr<support::FakeMapStore> store;
  std::unique_ptr<Writer> writer;
};

TEST_F(WriterTest, applies_and_reports) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  EXPECT_EQ(grace->periods, 1) << "before it recovers";
  const auto table = services(0, 3, 2, 7);
  const auto result = writer->apply(table);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->generation, 7u);
  EXPECT_EQ(result->changes.added, 3u);
  EXPECT_EQ(result->ops, 21u);
  EXPECT_EQ(result->steps, 1u);
  expect_in_force(table);
  EXPECT_EQ(writer->apply(table)->ops, 0u);
  reopen();
  EXPECT_EQ(writer->apply(services(0, 3, 2, 1))->ops, 0u);
  EXPECT_EQ(writer->usage().services.used, 3u);
}

TEST_F(WriterTest, releases_what_it_gave_up_without_further_updates) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  ASSERT_TRUE(writer->apply(services(0, 3, 2, 1)));
  ASSERT_TRUE(writer->apply(services(0, 0, 2, 2)));
  EXPECT_GT(writer->usage().slots.quarantined, 0u);
  drain();
  EXPECT_EQ(writer->usage().backends.quarantined, 0u);
  EXPECT_EQ(writer->usage().services.quarantined, 0u);
  EXPECT_EQ(writer->usage().ranges.quarantined, 0u);
}

TEST_F(WriterTest, waits_for_the_quarantine_when_room_is_short) {
  open({.services = 4, .ranges = 8, .slots = 8, .backends = 8});
  ASSERT_TRUE(writer->apply(services(0, 3, 2, 1)));
  ASSERT_TRUE(writer->apply(services(0, 0, 2, 2)));
  const auto table = services(3, 3, 2, 3);
  const auto result = writer->apply(table);
  ASSERT_TRUE(result) << result.error().to_string();
  expect_in_force(table);
}

TEST_F(WriterTest, goes_in_steps_when_old_and_new_do_not_fit_beside_each_other) {
  open({.services = 8, .ranges = 16, .slots = 16, .backends = 15});
  ASSERT_TRUE(writer->apply(services(0, 7, 2, 1)));
  for (const auto& table : {services(7, 7, 2, 2), services(8, 6, 2, 3, 2)}) {
    const auto result = writer->apply(table);
    // The second has 6 services of 3 slots: 18 of 16.
    if (table->generation == 3) {
      ASSERT_FALSE(result);
      EXPECT_THAT(result.error().message, HasSubstr("map 'slots' is full: 18 needed, 16 usable"));
      continue;
    }
    ASSERT_TRUE(result) << result.error().to_string();
    EXPECT_GT(result->steps, 1u);
    EXPECT_EQ(result->changes.added, 7u);
    EXPECT_EQ(result->changes.removed, 7u);
    expect_in_force(table);
    EXPECT_EQ(writer->apply(table)->ops, 0u);
  }
}

TEST_F(WriterTest, free_slots_in_pieces_are_said_and_used_once_they_are_one) {
  open({.services = 16, .ranges = 32, .slots = 24, .backends = 64});
  const auto table = [](std::initializer_list<std::pair<int, int>> wanted, std::uint64_t generation) {
    std::vector<model::ServiceRoutePtr> routes;
    for (const auto& [number, endpoints] : wanted) routes.push_back(services(number, 1, endpoints, 1)->services[0]);
    return support::table(std::move(routes), generation);
  };
  ASSERT_TRUE(writer->apply(services(0, 6, 4, 1)));
  const auto before = table({{0, 4}, {2, 4}, {4, 4}}, 2);
  ASSERT_TRUE(writer->apply(before));
  drain();
  ASSERT_EQ(writer->usage().slots.used, 12U);
  ASSERT_EQ(writer->usage().largest_free_run, 4U);
  const auto refused = writer->apply(table({{0, 4}, {2, 4}, {4, 4}, {7, 8}}, 3));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, base::ErrorKind::kExhausted);
  EXPECT_THAT(refused.error().to_string(), HasSubstr("12 free, but in pieces"));
  EXPECT_THAT(refused.error().remedy, HasSubstr("once neighbours of a free piece go"));
  expect_in_force(before);
  const auto fits = table({{0, 4}, {4, 4}, {7, 8}}, 4);
  const auto applied = writer->apply(fits);
  ASSERT_TRUE(applied) << applied.error().to_string();
  expect_in_force(fits);
}

TEST_F(WriterTest, goes_in_steps_also_right_after_a_restart) {
  open({.services = 16, .ranges = 16, .slots = 24, .backends = 32});
  const auto all_whole = [&](const model::RoutingTablePtr& old, const model::RoutingTablePtr& next) {
    // Whatever a step has left: each service is as it was or as it shall be.
    for (std::size_t i = 0; i < next->services.size(); ++i) {
      const auto text = support::FakeReader(*store, next->services[i]->service->frontend).finish();
      EXPECT_TRUE(text == support::reader_text(*old->services[i]) || text == support::reader_text(*next->services[i]))
          << text;
    }
  };
  auto old = services(0, 7, 2, 1);
  ASSERT_TRUE(writer->apply(old));
  // The same services with more slots, 14 to 21 of 24; then other services; then a failure halfway.
  auto next = services(0, 7, 2, 2, 2);
  reopen();
  auto result = writer->apply(next);
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_GT(result->steps, 1u);
  EXPECT_EQ(result->changes.updated, 7u);
  expect_in_force(next);
  EXPECT_EQ(writer->apply(next)->ops, 0u);

  old = std::exchange(next, services(7, 7, 2, 3, 2));
  reopen();
  result = writer->apply(next);
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_GT(result->steps, 1u);
  EXPECT_EQ(result->changes.removed, 7u);
  expect_in_force(next);

  old = std::exchange(next, services(7, 7, 3, 4));
  reopen();
  store->fail(15, EIO);
  ASSERT_FALSE(writer->apply(next));
  all_whole(old, next);
  ASSERT_TRUE(writer->apply(next)) << "stale: it recovers by itself and goes on";
  expect_in_force(next);
}

TEST_F(WriterTest, what_had_no_room_after_a_restart_is_applied_once_the_sockets_are_gone) {
  open({.services = 8, .ranges = 16, .slots = 64, .backends = 9});
  const auto old = services(0, 4, 2, 1);
  ASSERT_TRUE(writer->apply(old));
  reopen();
  {
    const std::lock_guard lock(mutex);
    named = {1, 2, 3, 4, 5, 6, 7, 8};
  }
  const auto next = services(4, 4, 2, 2);
  const auto refused = writer->apply(next);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, base::ErrorKind::kExhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("map 'backends' is full"));
  {
    const std::lock_guard lock(mutex);
    named.clear();
  }
  const auto result = writer->apply(next);
  ASSERT_TRUE(result) << result.error().to_string();
  expect_in_force(next);
}

TEST_F(WriterTest, goes_on_from_what_the_kernel_has_after_a_fault) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  ASSERT_TRUE(writer->apply(services(0, 3, 2, 1)));
  const auto ids = writer->ids()->service_ids;
  store->fail(3, ENOSPC);
  const auto table = services(0, 4, 3, 2);
  EXPECT_FALSE(writer->apply(table));
  ASSERT_TRUE(writer->apply(table));
  expect_in_force(table);
  const auto now = writer->ids()->service_ids;
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), now.begin()));
}

TEST_F(WriterTest, repairs_what_someone_else_changed) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  const auto table = services(0, 3, 2, 1);
  ASSERT_TRUE(writer->apply(table));
  EXPECT_THAT(*writer->repair(), IsEmpty());
  ASSERT_TRUE(store->store_state(2, 0));
  EXPECT_THAT(*writer->repair(), Not(IsEmpty()));
  EXPECT_THAT(*writer->repair(), IsEmpty());
  expect_in_force(table);
}

TEST_F(WriterTest, backends_of_live_sockets_are_looked_at_again) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  named = {1};
  ASSERT_TRUE(writer->apply(services(0, 1, 2, 1)));
  ASSERT_TRUE(writer->apply(services(0, 0, 2, 2)));
  drain();
  EXPECT_EQ(writer->usage().backends.quarantined, 1u);
  {
    const std::lock_guard lock(mutex);
    named.clear();
  }
  while (writer->usage().backends.quarantined > 0) ASSERT_TRUE(writer->tidy());
}

TEST_F(WriterTest, says_why_nothing_is_released_and_tries_again) {
  open({.services = 16, .ranges = 32, .slots = 64, .backends = 64});
  ASSERT_TRUE(writer->apply(services(0, 1, 2, 1)));
  grace->broken = true;
  ASSERT_TRUE(writer->apply(services(0, 0, 2, 2)));
  while (!writer->release_error()) ASSERT_TRUE(writer->tidy());
  EXPECT_GT(writer->usage().slots.quarantined, 0u);
  grace->broken = false;
  drain();
  EXPECT_FALSE(writer->release_error());
}

TEST(Grace, membarrier_works_without_privileges) {
  const auto grace = make_grace();
  if (!grace) GTEST_SKIP() << "SKIPPED: neither membarrier(2) nor bpf(2) can be used: " << grace.error().to_string();
  EXPECT_TRUE((*grace)->wait());
}

TEST(Grace, the_fallback_works_where_bpf_can_be_used) {
  const auto grace = make_map_grace();
  if (!grace) GTEST_SKIP() << "SKIPPED: bpf(2) can't be used here: " << grace.error().to_string();
  EXPECT_TRUE((*grace)->wait());
  EXPECT_TRUE((*grace)->wait());
}

}  // namespace
}  // namespace mesh::datapath
