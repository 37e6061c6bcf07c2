// SPDX-License-Identifier: Apache-2.0
#include "observe/ledger.hpp"

#include <gtest/gtest.h>

namespace mesh::observe {
namespace {

const Ledger::Service kOrders{"orders", 80, model::Protocol::kTcp};
const Ledger::Service kCache{"cache", 6379, model::Protocol::kTcp};
const model::Frontend kFrontend{*base::SocketAddress::parse("240.64.0.1:80"), model::Protocol::kTcp};

struct Books {
  mesh_backend_live live{.opened = 1};
  mesh_backend_outcomes outcomes{};
};

Books books(std::uint64_t established, std::uint64_t closed, std::uint64_t bytes_out) {
  Books result;
  result.live.opened = established;
  result.live.established = established;
  result.outcomes.ended[MESH_CLOSED] = closed;
  result.outcomes.bytes_out = bytes_out;
  return result;
}

class LedgerTest : public ::testing::Test {
 protected:
  void add(const Ledger::Service* service, std::uint32_t id, const Books& seen, std::uint32_t generation = 1) {
    ledger_.add(service, kFrontend, id, generation, seen.live, seen.outcomes);
  }
  /// One look at some backends of orders: ids 1, 2, ...
  void look(const std::vector<Books>& backends) {
    ledger_.begin();
    for (std::size_t i = 0; i < backends.size(); ++i) add(&kOrders, static_cast<std::uint32_t>(i + 1), backends[i]);
    ledger_.end();
  }
  Ledger ledger_;
};

TEST_F(LedgerTest, what_was_there_before_anybody_owned_it_is_not_added) {
  ledger_.begin();
  add(nullptr, 1, books(100, 90, 5000));
  ledger_.end();
  look({books(103, 91, 5100)});
  EXPECT_EQ(ledger_.of(kOrders).established, 3U);
  EXPECT_EQ(ledger_.of(kOrders).ended[MESH_CLOSED], 1U);
  EXPECT_EQ(ledger_.of(kOrders).bytes_out, 100U);
}

TEST_F(LedgerTest, the_sum_never_falls_when_a_backend_goes) {
  look({books(100, 90, 0), books(200, 190, 0)});
  look({books(101, 90, 0)});
  EXPECT_EQ(ledger_.of(kOrders).established, 301U);
  EXPECT_EQ(ledger_.size(), 1U) << "backends that are gone are forgotten";
}

TEST_F(LedgerTest, another_identity_and_a_counter_that_fell_are_new_starts) {
  look({books(100, 90, 0)});
  ledger_.begin();
  add(&kOrders, 1, books(7, 6, 0), 2);
  ledger_.end();
  EXPECT_EQ(ledger_.of(kOrders).established, 107U);
  ledger_.begin();
  add(&kOrders, 1, books(2, 1, 0), 2);
  ledger_.end();
  EXPECT_EQ(ledger_.of(kOrders).established, 109U);
}

TEST_F(LedgerTest, backends_of_services_with_one_name_are_one_sum) {
  ledger_.begin();
  add(&kOrders, 1, books(1, 0, 0));
  add(&kOrders, 2, books(2, 0, 0));
  add(&kCache, 3, books(4, 0, 0));
  ledger_.end();
  EXPECT_EQ(ledger_.of(kOrders).established, 3U);
  EXPECT_EQ(ledger_.of(kCache).established, 4U);
}

TEST_F(LedgerTest, a_backend_that_waits_to_be_reused_is_not_counted_again) {
  look({books(100, 90, 0)});
  ledger_.begin();
  add(nullptr, 1, books(100, 95, 0));
  ledger_.end();
  EXPECT_EQ(ledger_.of(kOrders), Experience{}) << "the service is gone";
  look({books(101, 95, 0)});
  EXPECT_EQ(ledger_.of(kOrders).established, 1U);
}

TEST_F(LedgerTest, latencies_under_an_id_are_those_of_its_present_service) {
  mesh_service_latency latency{};
  latency.buckets[10] = 50;
  ledger_.begin();
  ledger_.add(nullptr, 4, latency);
  ledger_.end();
  latency.buckets[10] = 53;
  latency.buckets[11] = 2;
  ledger_.begin();
  ledger_.add(&kCache, 4, latency);
  ledger_.end();
  EXPECT_EQ(ledger_.of(kCache).latency[10], 3U);
  EXPECT_EQ(ledger_.of(kCache).latency[11], 2U);
}

TEST_F(LedgerTest, a_service_keeps_its_sums_when_all_its_endpoints_are_replaced) {
  look({books(40, 40, 0), books(20, 20, 0)});
  ledger_.begin();
  ledger_.meet(kOrders);
  ledger_.meet(kFrontend);
  add(&kOrders, 3, {.live = {}, .outcomes = {}});
  ledger_.end();
  EXPECT_EQ(ledger_.of(kOrders).established, 60U);
  EXPECT_EQ(ledger_.of(kFrontend).established, 60U);
  ledger_.begin();
  ledger_.end();
  EXPECT_EQ(ledger_.of(kFrontend), Experience{}) << "the service is gone";
}

TEST_F(LedgerTest, an_address_has_what_was_there_before_anybody_owned_it) {
  ledger_.begin();
  add(nullptr, 1, books(100, 90, 5000));
  ledger_.end();
  look({books(103, 91, 5100)});
  EXPECT_EQ(ledger_.of(kOrders).established, 3U);
  EXPECT_EQ(ledger_.of(kFrontend).established, 103U);
  EXPECT_EQ(ledger_.of(kFrontend).bytes_out, 5100U);
}

TEST_F(LedgerTest, idle_backends_cost_no_memory) {
  look({Books{.live = {}, .outcomes = {}}});
  EXPECT_EQ(ledger_.size(), 0U);
}

}  // namespace
}  // namespace mesh::observe
