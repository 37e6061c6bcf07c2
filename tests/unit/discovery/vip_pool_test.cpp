// SPDX-License-Identifier: Apache-2.0
#include "discovery/vip_pool.hpp"

#include <gtest/gtest.h>

#include <set>

namespace mesh::discovery {
namespace {

VipRange range(const char* text) {
  const auto parsed = VipRange::parse(text);
  EXPECT_TRUE(parsed) << text;
  return *parsed;
}
base::IpAddress ip(const char* text) { return *base::IpAddress::parse(text); }

TEST(VipRange, is_read_and_refused) {
  EXPECT_EQ(range("240.64.0.0/12").to_string(), "240.64.0.0/12");
  EXPECT_EQ(range("fd00::/64").to_string(), "fd00::/64");
  for (const char* bad : {"240.64.0.0", "240.64.0.0/31", "240.64.0.0/7", "240.65.0.0/12", "fd00::1/64", "x/8",
                          "fd00::/127", "240.64.0.0/12x"}) {
    EXPECT_FALSE(VipRange::parse(bad)) << bad;
  }
  const VipRange v4 = range("240.64.0.0/12");
  EXPECT_TRUE(v4.contains(ip("240.79.255.255")));
  EXPECT_FALSE(v4.contains(ip("240.80.0.0")));
  EXPECT_FALSE(v4.contains(ip("fd00::1")));
  EXPECT_EQ(v4.at(0), ip("240.65.0.0")) << "the first sixteenth is for people";
  EXPECT_EQ(v4.at(v4.capacity() - 1), ip("240.79.255.254"));
}

TEST(VipTable, a_name_has_one_address_and_no_two_have_the_same) {
  VipTable table(range("240.64.0.0/20"), {ip("240.64.5.5")});
  std::set<base::IpAddress> given;
  for (int i = 0; i < 3000; ++i) {
    const auto address = table.assign("name-" + std::to_string(i), 1);
    ASSERT_TRUE(address);
    EXPECT_TRUE(table.range().contains(*address));
    EXPECT_NE(*address, ip("240.64.5.5")) << "reserved";
    EXPECT_GE(*address, ip("240.64.1.0"));
    EXPECT_TRUE(given.insert(*address).second);
  }
  for (int i = 0; i < 3000; ++i) EXPECT_TRUE(given.contains(*table.assign("name-" + std::to_string(i), 2)));
  EXPECT_EQ(table.entries().size(), 3000u);
  VipTable other(range("240.64.0.0/20"));
  EXPECT_EQ(*other.assign("name-0", 9), *table.assign("name-0", 9)) << "agents agree where nothing is in the way";
}

TEST(VipTable, a_full_range_takes_from_who_was_longest_without_use_and_else_says_so) {
  VipTable table(range("10.0.0.0/28"));
  const std::uint64_t capacity = table.range().capacity();
  for (std::uint64_t i = 0; i < capacity; ++i) {
    ASSERT_TRUE(table.assign("name-" + std::to_string(i), i == 3 ? 5 : 10));
  }
  const auto freed = *table.assign("name-3", 5);
  EXPECT_FALSE(table.assign("new", 6)) << "used yesterday";
  const auto refused = table.assign("new", 6);
  EXPECT_EQ(refused.error().kind, base::ErrorKind::kExhausted);
  EXPECT_NE(refused.error().remedy.find("agent.vip_range"), std::string::npos);
  EXPECT_EQ(*table.assign("new", 7), freed);
  EXPECT_FALSE(table.assign("newer", 8));
}

TEST(VipTable, comes_back_from_disk_whole_or_not_at_all) {
  VipTable v4(range("240.64.0.0/12"));
  VipTable v6(range("fd00::/64"));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(v4.assign("name-" + std::to_string(i), static_cast<VipTable::Day>(i)));
    ASSERT_TRUE(v6.assign("name-" + std::to_string(i), static_cast<VipTable::Day>(i)));
  }
  const std::string content = encode_vips(v4, v6);
  VipTable back4(range("240.64.0.0/12"));
  VipTable back6(range("fd00::/64"));
  ASSERT_TRUE(decode_vips(content, back4, back6));
  EXPECT_EQ(back4.entries(), v4.entries());
  EXPECT_EQ(back6.entries(), v6.entries());
  EXPECT_FALSE(back4.changed());
  for (std::size_t i = 0; i < content.size(); ++i) {
    std::string damaged = content;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    VipTable fresh4(range("240.64.0.0/12"));
    VipTable fresh6(range("fd00::/64"));
    ASSERT_FALSE(decode_vips(damaged, fresh4, fresh6)) << "byte " << i;
    ASSERT_TRUE(fresh4.entries().empty() && fresh6.entries().empty());
  }
  VipTable elsewhere(range("10.0.0.0/8"));
  VipTable back(range("fd00::/64"));
  ASSERT_TRUE(decode_vips(content, elsewhere, back)) << "another range is configured now";
  EXPECT_TRUE(elsewhere.entries().empty());
}

}  // namespace
}  // namespace mesh::discovery
