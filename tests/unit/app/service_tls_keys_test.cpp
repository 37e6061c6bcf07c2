// SPDX-License-Identifier: Apache-2.0
#include "discovery/service_tls_keys.hpp"

#include <gtest/gtest.h>

#include "app/config.hpp"

namespace mesh::app {
namespace {

using discovery::is_server_name;

LoadResult load(const std::string& rest) {
  return parse_config({{"/etc/meshd.yaml", "meshd.yaml", "apiVersion: meshd/v1\nagent: {cgroups: [/apps]}\n" + rest}});
}

/// Of one service with these keys.
LoadResult service(const std::string& keys, const std::string& before = "") {
  return load(before + "services: [{name: orders, address: \"240.0.0.1:443\", endpoints: [\"10.0.0.1:443\"], " + keys +
              "}]\n");
}

std::string first_error(const LoadResult& result) {
  return result.errors.empty() ? "" : result.errors.front().to_string();
}

TEST(ServiceTls, the_short_form_is_all_that_is_needed) {
  const auto result = service("tls: originate");
  ASSERT_TRUE(result.good()) << first_error(result);
  ASSERT_TRUE(result.config.services[0]->is_relayed());
  EXPECT_EQ(*result.config.services[0]->tls, model::TlsPolicy{});
  EXPECT_FALSE(service("probe: none").config.services[0]->tls);
}

TEST(ServiceTls, every_key_is_read_and_written_again) {
  const auto result = service(
      "tls: {mode: originate, server_name: Pay.Example.com, ca: /ca.pem, certificate: /c.pem, key: /k.pem, "
      "min_version: \"1.3\", alpn: [h2]}");
  ASSERT_TRUE(result.good()) << first_error(result);
  const model::TlsPolicy& tls = *result.config.services[0]->tls;
  EXPECT_EQ(tls.server_name, "pay.example.com");
  EXPECT_EQ(tls.ca, "/ca.pem");
  EXPECT_EQ(tls.certificate, "/c.pem");
  EXPECT_EQ(tls.key, "/k.pem");
  EXPECT_EQ(tls.min_version, "1.3");
  EXPECT_EQ(tls.alpn, std::vector<std::string>{"h2"});
  const auto again = parse_config({{"f", "f", show_config(result.config, Format::kYaml)}});
  ASSERT_TRUE(again.good()) << first_error(again);
  EXPECT_TRUE(again.config.services[0]->same_as(*result.config.services[0]));
}

TEST(ServiceTls, mutual_says_who_may_answer) {
  const auto result = service("tls: {mode: mutual, server_ids: [\"spiffe://a.test/node/*\"]}");
  ASSERT_TRUE(result.good()) << first_error(result);
  const model::TlsPolicy& tls = *result.config.services[0]->tls;
  EXPECT_EQ(tls.mode, model::TlsMode::kMutual);
  EXPECT_EQ(tls.server_ids, std::vector<std::string>{"spiffe://a.test/node/*"});
  const auto again = parse_config({{"f", "f", show_config(result.config, Format::kYaml)}});
  ASSERT_TRUE(again.good()) << first_error(again);
  EXPECT_TRUE(again.config.services[0]->same_as(*result.config.services[0]));
  EXPECT_NE(first_error(service("tls: {mode: mutual}")).find("does not say who may answer"), std::string::npos);
  EXPECT_NE(first_error(service("tls: {mode: mutual, server_ids: [node]}")).find("'node'"), std::string::npos);
  const std::string defaults = "defaults: {tls: {mode: mutual, server_ids: [\"spiffe://a.test/node/*\"]}}\n";
  EXPECT_EQ(service("feedback: true", defaults).config.services[0]->tls->mode, model::TlsMode::kMutual);
  EXPECT_EQ(service("tls: originate", defaults).config.services[0]->tls->mode, model::TlsMode::kOriginate);
}

TEST(ServiceTls, defaults_are_inherited_changed_and_switched_off) {
  const std::string defaults = "defaults: {tls: {ca: /ca.pem, server_name: all.test}}\n";
  EXPECT_EQ(service("weight: 1", defaults).good(), false);
  EXPECT_EQ(service("feedback: true", defaults).config.services[0]->tls->ca, "/ca.pem");
  const auto changed = service("tls: {server_name: one.test}", defaults);
  EXPECT_EQ(changed.config.services[0]->tls->ca, "/ca.pem");
  EXPECT_EQ(changed.config.services[0]->tls->server_name, "one.test");
  EXPECT_FALSE(service("tls: off", defaults).config.services[0]->tls);
}

TEST(ServiceTls, what_would_go_without_tls_or_to_nobody_is_an_error) {
  EXPECT_NE(first_error(service("tls: originate, protocol: [tcp, udp]")).find("has UDP"), std::string::npos);
  EXPECT_NE(first_error(service("tls: {certificate: /c.pem}")).find("needs its key"), std::string::npos);
  EXPECT_NE(first_error(service("tls: {ca: ca.pem}")).find("starts with /"), std::string::npos);
  EXPECT_NE(first_error(service("tls: {server_name: \"a_b\"}")).find("neither a name"), std::string::npos);
  EXPECT_NE(first_error(service("tls: mutually")).find("must be off, originate"), std::string::npos);
  EXPECT_NE(first_error(load("services: [{name: shop/orders, address: \"240.0.0.1:1\", endpoints: [], tls: "
                             "originate}]\n"))
                .find("add server_name"),
            std::string::npos);
}

TEST(ServiceTls, server_names_are_names_or_addresses) {
  for (const char* good : {"a", "pay.example.com", "10.0.0.1", "fd00::1", "x-1.y"}) EXPECT_TRUE(is_server_name(good));
  for (const char* bad : {"", "a_b", "a/b", ".a", "a.", "a..b", "*.a"}) EXPECT_FALSE(is_server_name(bad)) << bad;
}

}  // namespace
}  // namespace mesh::app
