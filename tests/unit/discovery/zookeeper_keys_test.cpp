// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discovery/yaml_reader.hpp"

namespace mesh::discovery {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

struct Decoded {
  ZookeeperSettings settings;
  std::string findings;
};

Decoded decode(const std::string& text) {
  const Document document("test.yaml", text);
  Findings findings;
  Decoded decoded;
  const auto value = read_yaml(document, text, findings);
  Decoder decoder(document, findings);
  if (value) {
    decoder.table(kZookeeperTable, *value, &decoded.settings);
    finish_zookeeper_settings(decoder, *value, decoded.settings);
  }
  for (const Diagnostic& error : findings.errors) decoded.findings += error.to_string() + "\n";
  return decoded;
}

std::string findings(const std::string& text) { return decode(text).findings; }

TEST(ZookeeperKeys, say_which_nodes_are_which_services) {
  const auto [settings, found] = decode(
      "servers: [zk1.example.com, \"10.0.0.1:2182\"]\n"
      "chroot: /prod\n"
      "session_timeout: 4s\n"
      "services:\n"
      "  - orders\n"
      "  - {match: com.shop.*, layout: dubbo, labels: [version=1.0]}\n"
      "  - {match: web, layout: serverset, path: /sets, endpoint: admin, name: web-admin, port: 80}\n"
      "  - {match: all, layout: nerve, path: /nerve/services, below: services}\n");
  EXPECT_EQ(found, "");
  EXPECT_EQ(settings.session_timeout, 4s);
  ASSERT_EQ(settings.services.size(), 4U);
  EXPECT_TRUE(settings.services[0].is_exact());
  EXPECT_EQ(settings.services[0].folder("orders"), "/services/orders");
  EXPECT_EQ(settings.services[1].folder("com.shop.Orders"), "/dubbo/com.shop.Orders/providers");
  EXPECT_FALSE(settings.services[1].is_exact());
  EXPECT_EQ(settings.services[2].folder("web"), "/sets/web");
  EXPECT_EQ(settings.services[3].folder("pay"), "/nerve/services/pay/services");
}

TEST(ZookeeperKeys, mistakes_are_named) {
  EXPECT_THAT(findings("servers: []\n"), HasSubstr("1 to 16 servers"));
  EXPECT_THAT(findings("servers: [\"zk:2181/prod\"]\n"), HasSubstr("a chroot is a key of its own"));
  EXPECT_THAT(findings("servers: [\"zk:0\"]\n"), HasSubstr("not a server"));
  EXPECT_THAT(findings("chroot: prod\n"), HasSubstr("no path"));
  EXPECT_THAT(findings("chroot: /a/../b\n"), HasSubstr("no path"));
  EXPECT_THAT(findings("auth_file: secret\n"), HasSubstr("starts with /"));
  EXPECT_THAT(findings("services: [\"*\"]\n"), HasSubstr("write all"));
  EXPECT_THAT(findings("services: [{match: a/b}]\n"), HasSubstr("belongs in path"));
  EXPECT_THAT(findings("services: [{match: web, layout: nerve}]\n"), HasSubstr("'path' is missing"));
  EXPECT_THAT(findings("services: [{match: web, endpoint: admin}]\n"), HasSubstr("is for the layout serverset"));
  EXPECT_THAT(findings("services: [{match: a*, name: a}]\n"), HasSubstr("can match several"));
  EXPECT_THAT(findings("services: [{match: a, labels: [v1]}]\n"), HasSubstr("version=v1"));
  EXPECT_THAT(findings("services: [{match: a, layout: zuul}]\n"), HasSubstr("curator"));
  EXPECT_THAT(findings("services: [all, orders]\n"), HasSubstr("stands after 'all'"));
  EXPECT_THAT(findings("services: [{path: /a}]\n"), HasSubstr("match"));
}

TEST(ZookeeperKeys, servers_are_names_and_addresses) {
  EXPECT_EQ(*parse_zookeeper_server("zk1"), (std::pair<std::string, std::string>("zk1", "2181")));
  EXPECT_EQ(*parse_zookeeper_server("zk1:2182"), (std::pair<std::string, std::string>("zk1", "2182")));
  EXPECT_EQ(*parse_zookeeper_server("[fd00::1]:2183"), (std::pair<std::string, std::string>("fd00::1", "2183")));
  EXPECT_EQ(*parse_zookeeper_server("fd00::1"), (std::pair<std::string, std::string>("fd00::1", "2181")));
  for (const char* text : {"", ":2181", "zk1:", "zk1:70000", "zk 1", "zk1:2181,zk2:2181"}) {
    EXPECT_FALSE(parse_zookeeper_server(text)) << text;
  }
}

TEST(ZookeeperKeys, are_written_as_they_are_read) {
  const auto [settings, found] = decode("services: [orders, {match: pay, port: 80}]\n");
  const Value value = encode(kZookeeperTable, &settings, Secrets::kReveal, Encode::kChanged);
  const Value* const services = value.find("services");
  ASSERT_NE(services, nullptr);
  EXPECT_EQ(services->items[0].text, "orders");
  EXPECT_NE(services->items[1].find("port"), nullptr);
  EXPECT_EQ(services->items[1].find("layout"), nullptr);
}

}  // namespace
}  // namespace mesh::discovery
