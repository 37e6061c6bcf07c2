// SPDX-License-Identifier: Apache-2.0
#include "relay/mesh.hpp"

#include <gtest/gtest.h>

namespace mesh::relay {
namespace {

base::SocketAddress at(std::string_view text) { return *base::SocketAddress::parse(text); }
tls::SpiffeId id(std::string_view text) { return *tls::SpiffeId::parse(text); }

const MeshPolicies kPolicies{{"web:80",
                              {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/shop")},
                               .endpoints = {at("10.0.0.1:8080"), at("10.0.0.2:8080")}}},
                             {"db:5432",
                              {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/shop/*")},
                               .dry_run = true,
                               .endpoints = {at("10.0.0.1:5432")}}}};

MeshReply reply(std::string_view service, std::string_view client, std::string_view destination,
                std::string_view reached = "10.0.0.1") {
  return judge(kPolicies, service, id(client), at(destination), *base::IpAddress::parse(reached)).reply;
}

TEST(MeshJudge, takes_who_is_allowed_to_an_endpoint_where_the_connection_came_to) {
  EXPECT_EQ(reply("web:80", "spiffe://a.test/shop", "10.0.0.1:8080"), MeshReply::kConnected);
  EXPECT_EQ(reply("web:80", "spiffe://a.test/cart", "10.0.0.1:8080"), MeshReply::kNotAllowed);
  EXPECT_EQ(reply("web:80", "spiffe://b.test/shop", "10.0.0.1:8080"), MeshReply::kNotAllowed);
  EXPECT_EQ(reply("web:81", "spiffe://a.test/shop", "10.0.0.1:8080"), MeshReply::kNoService);
}

TEST(MeshJudge, leads_nowhere_but_to_the_services_endpoints_on_that_address) {
  EXPECT_EQ(reply("web:80", "spiffe://a.test/shop", "10.0.0.1:22"), MeshReply::kNotHere);
  EXPECT_EQ(reply("web:80", "spiffe://a.test/shop", "10.0.0.1:5432"), MeshReply::kNotHere) << "of another service";
  EXPECT_EQ(reply("web:80", "spiffe://a.test/shop", "10.0.0.2:8080"), MeshReply::kNotHere) << "of another node";
  EXPECT_EQ(reply("web:80", "spiffe://a.test/shop", "169.254.169.254:80"), MeshReply::kNotHere);
  EXPECT_EQ(reply("web:80", "spiffe://a.test/cart", "10.0.0.1:22"), MeshReply::kNotHere)
      << "who is not allowed learns nothing of what else is here";
}

TEST(MeshJudge, in_a_dry_run_others_are_taken_and_known) {
  const auto verdict = [](std::string_view client) {
    return judge(kPolicies, "db:5432", id(client), at("10.0.0.1:5432"), *base::IpAddress::parse("10.0.0.1"));
  };
  EXPECT_EQ(verdict("spiffe://a.test/shop/cart").reply, MeshReply::kConnected);
  EXPECT_FALSE(verdict("spiffe://a.test/shop/cart").dry_run);
  EXPECT_EQ(verdict("spiffe://a.test/other").reply, MeshReply::kConnected);
  EXPECT_TRUE(verdict("spiffe://a.test/other").dry_run);
}

TEST(SaidOnce, says_each_thing_once) {
  SaidOnce said;
  EXPECT_TRUE(said.first("a"));
  EXPECT_TRUE(said.first("b"));
  EXPECT_FALSE(said.first("a"));
}

}  // namespace
}  // namespace mesh::relay
