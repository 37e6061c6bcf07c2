// SPDX-License-Identifier: Apache-2.0
#include "relay/identity.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace mesh::relay {
namespace {

std::string who(const std::vector<IdentityRule>& rules, const Owner& owner) {
  const auto found = identify(rules, owner);
  return found ? rules[*found].id.path : "nobody";
}

tls::SpiffeId id(const std::string& name) { return *tls::SpiffeId::parse("spiffe://a.test/" + name); }

TEST(Identity, the_first_rule_counts_of_which_all_is_so) {
  const std::vector<IdentityRule> rules{
      {.id = id("both"), .cgroup = "/apps/pod", .uid = 7},
      {.id = id("pod"), .cgroup = "/apps/pod"},
      {.id = id("unit"), .unit = "shop.service"},
      {.id = id("user"), .uid = 7},
  };
  EXPECT_EQ(who(rules, {.cgroup = "/apps/pod/container", .uid = 7}), "/both");
  EXPECT_EQ(who(rules, {.cgroup = "/apps/pod", .uid = 8}), "/pod");
  EXPECT_EQ(who(rules, {.cgroup = "/apps/pod2", .uid = 8}), "nobody") << "only begins like it";
  EXPECT_EQ(who(rules, {.cgroup = "/apps", .uid = 7}), "/user");
  EXPECT_EQ(who(rules, {.cgroup = "/system.slice/shop.service/worker", .uid = 7}), "/unit");
  EXPECT_EQ(who(rules, {.cgroup = "/", .uid = 8}), "nobody");
  EXPECT_EQ(who({}, {.cgroup = "/", .uid = 0}), "nobody");
}

TEST(Identity, what_is_not_known_matches_nothing) {
  const std::vector<IdentityRule> rules{{.id = id("all"), .cgroup = "/"}, {.id = id("root"), .uid = 0}};
  EXPECT_EQ(who(rules, {.cgroup = "", .uid = std::nullopt}), "nobody") << "closed, and its cgroup gone";
  EXPECT_EQ(who(rules, {.cgroup = "/x", .uid = std::nullopt}), "/all");
  EXPECT_EQ(who({{.id = id("empty")}}, {.cgroup = "/x", .uid = 0}), "nobody");
}

TEST(Identity, a_rule_that_may_be_so_ends_the_search) {
  const std::vector<IdentityRule> rules{
      {.id = id("admin"), .cgroup = "/apps", .uid = 0},
      {.id = id("unit"), .unit = "shop.service", .uid = 7},
      {.id = id("apps"), .cgroup = "/apps"},
      {.id = id("unit"), .unit = "shop.service"},
      {.id = id("user"), .uid = 8},
  };
  const auto closed = std::nullopt;
  EXPECT_EQ(who(rules, {.cgroup = "/apps/pod", .uid = closed}), "nobody") << "it may be the admin";
  EXPECT_EQ(who(rules, {.cgroup = "/apps/pod", .uid = 7}), "/apps");
  EXPECT_EQ(who(rules, {.cgroup = "/system.slice/shop.service", .uid = closed}), "nobody") << "it may be user 7";
  EXPECT_EQ(who(rules, {.cgroup = "/other", .uid = closed}), "nobody") << "it may be user 8";
  EXPECT_EQ(who(rules, {.cgroup = "", .uid = 0}), "nobody") << "it may be in /apps";
  EXPECT_EQ(who(rules, {.cgroup = "", .uid = 8}), "nobody") << "it may be in /apps, of any user";
  EXPECT_EQ(
      who({{.id = id("both"), .cgroup = "/apps", .uid = 0}, {.id = id("user"), .uid = 8}}, {.cgroup = "", .uid = 8}),
      "/user")
      << "of that user it is not so wherever it is";
  EXPECT_EQ(who({{.id = id("both"), .cgroup = "/apps", .uid = 0}, {.id = id("all"), .cgroup = "/"}},
                {.cgroup = "/other", .uid = closed}),
            "/all")
      << "there it is not so whoever it is";
}

TEST(Identity, a_client_without_one_is_told_what_keeps_it_from_one) {
  const auto remedy = [](const Owner& owner) { return std::string(remedy_without_identity(owner)); };
  EXPECT_NE(remedy({.cgroup = "/x", .uid = 0}).find("relay.identities"), std::string::npos);
  EXPECT_NE(remedy({.cgroup = "", .uid = 0}).find("/sys/fs/cgroup"), std::string::npos);
  EXPECT_NE(remedy({.cgroup = "/x", .uid = std::nullopt}).find("closed"), std::string::npos);
}

TEST(Identity, a_unit_is_one_of_the_systems_manager) {
  EXPECT_EQ(unit_of("/system.slice/shop.service"), "shop.service");
  EXPECT_EQ(unit_of("/system.slice/system-shop.slice/shop@1.service/main"), "shop@1.service");
  EXPECT_EQ(unit_of("/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service"), "user@1000.service")
      << "a user may call a unit of theirs as they like";
  EXPECT_EQ(unit_of("/apps/shop.service"), "apps");
  EXPECT_EQ(unit_of("/"), "");
  EXPECT_EQ(unit_of(""), "");
}

}  // namespace
}  // namespace mesh::relay
