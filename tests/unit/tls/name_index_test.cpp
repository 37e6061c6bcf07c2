// SPDX-License-Identifier: Apache-2.0
#include "tls/name_index.hpp"

#include <gtest/gtest.h>

namespace mesh::tls {
namespace {

TEST(TlsNameIndex, the_exact_name_wins_over_the_wildcard_of_one_label) {
  NameIndex index;
  EXPECT_EQ(index.add("*.shop.test", 1), 1u);
  EXPECT_EQ(index.add("Cart.Shop.test.", 2), 2u);
  EXPECT_EQ(index.add("cart.shop.test", 3), 2u) << "what it was added for first";
  EXPECT_EQ(index.find("cart.shop.test"), 2u);
  EXPECT_EQ(index.find("web.shop.test"), 1u);
  EXPECT_EQ(index.find("shop.test"), std::nullopt);
  EXPECT_EQ(index.find("a.web.shop.test"), std::nullopt);
  EXPECT_EQ(index.find(".shop.test"), std::nullopt);
  EXPECT_EQ(index.find(""), std::nullopt);
}

TEST(TlsNameIndex, refuses_what_is_no_pattern) {
  NameIndex index;
  for (const std::string pattern : {"", ".", "*", "*.", "a.*.test", "*a.test", "a..test", ".test", "a b", "é.test"}) {
    EXPECT_FALSE(index.add(pattern, 0)) << pattern;
  }
}

}  // namespace
}  // namespace mesh::tls
