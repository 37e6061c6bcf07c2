// SPDX-License-Identifier: Apache-2.0
#include "tls/spiffe.hpp"

#include <gtest/gtest.h>

namespace mesh::tls {
namespace {

std::string rule_broken_by(std::string_view text) {
  const auto id = SpiffeId::parse(text);
  return id ? "" : id.error().message;
}

TEST(SpiffeId, is_a_trust_domain_and_a_path) {
  const auto id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/Cart_1.x-y");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->trust_domain, "example.org");
  EXPECT_EQ(id->path, "/ns/shop/sa/Cart_1.x-y");
  EXPECT_EQ(id->to_string(), "spiffe://example.org/ns/shop/sa/Cart_1.x-y");
  EXPECT_EQ(SpiffeId::parse("spiffe://lab_1.example-2")->path, "");
}

TEST(SpiffeId, has_one_spelling_and_each_rule_is_named) {
  EXPECT_EQ(rule_broken_by("https://example.org/a"), "a SPIFFE ID begins with spiffe://");
  EXPECT_EQ(rule_broken_by("SPIFFE://example.org/a"), "a SPIFFE ID begins with spiffe://");
  EXPECT_EQ(rule_broken_by(""), "a SPIFFE ID begins with spiffe://");
  EXPECT_EQ(rule_broken_by("spiffe:///a"), "a SPIFFE ID has a trust domain");
  const std::string domain = "a trust domain is of a-z 0-9 - . _, in lower case";
  for (const char* text : {"spiffe://Example.org/a", "spiffe://example.org:443/a", "spiffe://user@example.org/a",
                           "spiffe://example.org?a", "spiffe://example.org#a", "spiffe://[fd00::1]/a"}) {
    EXPECT_EQ(rule_broken_by(text), domain) << text;
  }
  const std::string path = "a SPIFFE ID's path is of a-z A-Z 0-9 - . _ and /";
  for (const char* text : {"spiffe://example.org/a?b", "spiffe://example.org/a#b", "spiffe://example.org/%61",
                           "spiffe://example.org/a b", "spiffe://example.org/\xc3\xa4", "spiffe://example.org/*"}) {
    EXPECT_EQ(rule_broken_by(text), path) << text;
  }
  for (const char* text : {"spiffe://example.org/", "spiffe://example.org/a/", "spiffe://example.org//a"}) {
    EXPECT_EQ(rule_broken_by(text), "a SPIFFE ID's path has an empty segment or ends with /") << text;
  }
  for (const char* text : {"spiffe://example.org/./a", "spiffe://example.org/a/.."}) {
    EXPECT_EQ(rule_broken_by(text), "a SPIFFE ID's path has a segment . or ..") << text;
  }
}

TEST(SpiffeId, has_limits_in_bytes) {
  EXPECT_TRUE(SpiffeId::parse("spiffe://" + std::string(255, 'a')));
  EXPECT_EQ(rule_broken_by("spiffe://" + std::string(256, 'a')), "a trust domain has at most 255 bytes");
  const std::string front = "spiffe://example.org/";
  EXPECT_TRUE(SpiffeId::parse(front + std::string(2048 - front.size(), 'a')));
  EXPECT_EQ(rule_broken_by(front + std::string(2049 - front.size(), 'a')), "a SPIFFE ID has at most 2048 bytes");
}

TEST(SpiffePattern, is_one_identity_or_all_below_a_path) {
  const auto matches = [](std::string_view pattern, std::string_view id) {
    return SpiffePattern::parse(pattern)->matches(*SpiffeId::parse(id));
  };
  EXPECT_TRUE(matches("spiffe://a.test/shop", "spiffe://a.test/shop"));
  EXPECT_FALSE(matches("spiffe://a.test/shop", "spiffe://a.test/shop/cart"));
  EXPECT_FALSE(matches("spiffe://a.test/shop", "spiffe://b.test/shop"));
  EXPECT_TRUE(matches("spiffe://a.test/shop/*", "spiffe://a.test/shop/cart/1"));
  EXPECT_FALSE(matches("spiffe://a.test/shop/*", "spiffe://a.test/shop"));
  EXPECT_FALSE(matches("spiffe://a.test/shop/*", "spiffe://a.test/shopping/cart"));
  EXPECT_FALSE(matches("spiffe://a.test/shop/*", "spiffe://b.test/shop/cart"));
  EXPECT_TRUE(matches("spiffe://a.test/*", "spiffe://a.test/any"));
  EXPECT_FALSE(matches("spiffe://a.test/*", "spiffe://a.test"));
  EXPECT_EQ(SpiffePattern::parse("spiffe://a.test/shop/*")->to_string(), "spiffe://a.test/shop/*");
  EXPECT_FALSE(SpiffePattern::parse("spiffe://a.test/*/cart"));
  EXPECT_FALSE(SpiffePattern::parse("*"));
}

}  // namespace
}  // namespace mesh::tls
