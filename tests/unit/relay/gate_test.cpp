// SPDX-License-Identifier: Apache-2.0
#include "relay/gate.hpp"

#include <gtest/gtest.h>

namespace mesh::relay {
namespace {

using namespace std::chrono_literals;

TEST(Gate, lets_in_as_many_as_may_be_at_one_time) {
  Gate gate;
  gate.set_limits({.connections = 2});
  const base::TimePoint now{1h};
  EXPECT_FALSE(gate.enter(now));
  EXPECT_FALSE(gate.enter(now));
  EXPECT_EQ(gate.enter(now), Refusal::kConnections);
  gate.leave();
  EXPECT_FALSE(gate.enter(now));
  EXPECT_EQ(gate.active(), 2U);
}

TEST(Gate, lets_in_so_many_in_a_second_and_as_many_at_once) {
  Gate gate;
  gate.set_limits({.handshakes_per_second = 100});
  base::TimePoint now{1h};
  int in = 0;
  for (int i = 0; i < 500; ++i) in += gate.enter(now) ? 0 : 1;
  EXPECT_EQ(in, 100);
  for (int i = 0; i < 2000; ++i) in += gate.enter(now += 1ms) ? 0 : 1;
  EXPECT_EQ(in, 300);
  EXPECT_EQ(gate.active(), 300U) << "a refused one keeps no place";
}

TEST(Gate, counts_sources_only_while_there_is_a_limit) {
  Gate gate;
  const auto source = *base::IpAddress::parse("10.0.0.1");
  gate.set_limits({});
  EXPECT_EQ(gate.enter_source(source), Gate::Source::kFree);
  gate.set_limits({.connections_per_source = 1});
  EXPECT_EQ(gate.enter_source(source), Gate::Source::kCounted);
  EXPECT_EQ(gate.enter_source(source), Gate::Source::kRefused);
  EXPECT_EQ(gate.enter_source(*base::IpAddress::parse("10.0.0.2")), Gate::Source::kCounted);
  gate.leave_source(source);
  EXPECT_EQ(gate.enter_source(source), Gate::Source::kCounted);
}

}  // namespace
}  // namespace mesh::relay
