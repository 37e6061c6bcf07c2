// SPDX-License-Identifier: Apache-2.0
#include "app/drain_orders.hpp"

#include <gtest/gtest.h>

#include "tests/support/routing_builder.hpp"

namespace mesh::app {
namespace {

using std::chrono::seconds;

const base::WallTime kNow{std::chrono::hours(500'000)};

model::Snapshot two_ports() {
  model::Snapshot snapshot;
  for (const char* frontend : {"240.0.0.1:80", "240.0.0.1:443"}) {
    auto service = support::service({.frontend = frontend, .endpoints = {{"10.0.0.1:80", 1}, {"10.0.0.2:80", 1}}});
    service.name = "web";
    snapshot.services.push_back(std::make_shared<const model::Service>(std::move(service)));
  }
  std::ranges::sort(snapshot.services, {}, [](const auto& one) { return one->frontend; });
  return snapshot;
}

base::Result<health::DrainOrders> carry_out(health::DrainOrders orders, const api::DrainRequest& request) {
  const auto command = MESH_TRY(read_drain(request, two_ports(), orders, kNow));
  return with_drain(std::move(orders), command);
}

TEST(DrainOrders, a_request_means_the_endpoints_that_fit) {
  EXPECT_EQ(carry_out({}, {.service = "web", .endpoint = "10.0.0.1"})->size(), 2U);
  EXPECT_EQ(carry_out({}, {.service = "web:80", .endpoint = "10.0.0.1"})->size(), 1U);
  EXPECT_EQ(carry_out({}, {.service = "240.0.0.1:443", .endpoint = "10.0.0.2:80"})->size(), 1U);
  EXPECT_EQ(carry_out({}, {.service = "web", .endpoint = "10.0.0.3"}).error().kind, base::ErrorKind::kNotFound);
  EXPECT_EQ(carry_out({}, {.service = "wob", .endpoint = "10.0.0.1"}).error().kind, base::ErrorKind::kNotFound);
  EXPECT_EQ(carry_out({}, {.service = "web", .endpoint = "first"}).error().kind, base::ErrorKind::kInvalid);
  EXPECT_EQ(carry_out({}, {.service = "web", .endpoint = "10.0.0.1", .timeout = "soon"}).error().kind,
            base::ErrorKind::kInvalid);
}

TEST(DrainOrders, asked_again_it_goes_on_with_another_timeout) {
  auto orders = *carry_out({}, {.service = "web:80", .endpoint = "10.0.0.1", .timeout = "1m"});
  orders.begin()->second.since -= seconds(10);
  orders = *carry_out(orders, {.service = "web:80", .endpoint = "10.0.0.1", .timeout = "never"});
  ASSERT_EQ(orders.size(), 1U);
  EXPECT_EQ(orders.begin()->second.since, kNow - seconds(10));
  ASSERT_TRUE(orders.begin()->second.timeout);
  EXPECT_FALSE(*orders.begin()->second.timeout);
}

TEST(DrainOrders, an_order_is_undone_also_when_the_endpoint_is_gone) {
  auto orders = *carry_out({}, {.service = "web", .endpoint = "10.0.0.1"});
  const auto stray = std::pair{orders.begin()->first.first, support::address("10.0.0.9:80")};
  orders[stray] = {};
  EXPECT_EQ(carry_out(orders, {.service = "web", .endpoint = "10.0.0.9", .undo = true})->size(), 2U);
  EXPECT_TRUE(carry_out({{stray, {}}}, {.service = "240.0.0.1:80", .endpoint = "10.0.0.9", .undo = true})->empty());
  EXPECT_EQ(carry_out({}, {.service = "web", .endpoint = "10.0.0.1", .undo = true}).error().kind,
            base::ErrorKind::kNotFound);
}

TEST(DrainOrders, are_read_back_as_they_were_written) {
  auto orders = *carry_out({}, {.service = "web", .endpoint = "10.0.0.1", .timeout = "1m30s"});
  orders.begin()->second.timeout.reset();
  EXPECT_EQ(decode_orders(encode_orders(orders)), orders);
  EXPECT_FALSE(decode_orders("{"));
  EXPECT_FALSE(decode_orders(R"({"kind":"DrainOrders","items":[{"address":"x","protocol":"tcp"}]})"));
}

}  // namespace
}  // namespace mesh::app
