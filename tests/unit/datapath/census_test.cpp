// SPDX-License-Identifier: Apache-2.0
#include "datapath/census.hpp"

#include <gtest/gtest.h>

namespace mesh::datapath {
namespace {

mesh_owner record(std::uint64_t cookie, std::uint64_t netns, std::uint64_t start_ns = 5) {
  mesh_owner owner{};
  owner.cookie = cookie;
  owner.start_ns = start_ns;
  owner.netns_cookie = netns;
  owner.flags = netns == 0 ? 0 : MESH_OWNER_FEEDBACK;
  return owner;
}

std::vector<std::uint64_t> gone(const StaleRecords::Verdict& verdict) {
  std::vector<std::uint64_t> cookies;
  for (const mesh_owner& owner : verdict.gone) cookies.push_back(owner.cookie);
  return cookies;
}

using Cookies = std::vector<std::uint64_t>;

TEST(StaleRecords, missed_once_is_nothing_missed_twice_is_gone) {
  StaleRecords stale;
  const std::vector<mesh_owner> records{record(1, 70), record(2, 70), record(3, 70)};
  EXPECT_EQ(gone(stale.look(records, {.met = {1}, .visited = {70}})), Cookies{});
  EXPECT_EQ(gone(stale.look(records, {.met = {1, 3}, .visited = {70}})), Cookies{2});
  EXPECT_EQ(gone(stale.look(records, {.met = {1}, .visited = {70}})), Cookies{}) << "3 was met in between";
}

TEST(StaleRecords, a_socket_that_connected_anew_in_between_begins_anew) {
  StaleRecords stale;
  const CensusPass pass{.met = {}, .visited = {70}};
  EXPECT_EQ(gone(stale.look(std::vector{record(1, 70, 5)}, pass)), Cookies{});
  EXPECT_EQ(gone(stale.look(std::vector{record(1, 70, 9)}, pass)), Cookies{});
  EXPECT_EQ(gone(stale.look(std::vector{record(1, 70, 9)}, pass)), Cookies{1});
}

TEST(StaleRecords, what_can_not_be_looked_for_is_left_and_counted) {
  StaleRecords stale;
  const std::vector<mesh_owner> records{record(1, 70), record(2, 80), record(3, 0)};
  for (int i = 0; i < 3; ++i) {
    const auto verdict = stale.look(records, {.met = {}, .visited = {80}});
    EXPECT_EQ(gone(verdict), i == 1 ? Cookies{2} : Cookies{});
    EXPECT_EQ(verdict.unreachable, 2U) << "1, and 3: nobody knows where it is, so it may be with 1";
  }
  const CensusPass all{.met = {}, .visited = {70, 80}};
  EXPECT_EQ(gone(stale.look(records, all)), Cookies{2}) << "the others are looked for from now on";
  EXPECT_EQ(gone(stale.look(records, all)), (Cookies{1, 3}));
}

}  // namespace
}  // namespace mesh::datapath
