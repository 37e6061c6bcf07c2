// SPDX-License-Identifier: Apache-2.0
#include "app/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::app {
namespace {

LoadResult parse(std::string text) { return parse_config({{"meshd.yaml", "meshd.yaml", std::move(text)}}); }

std::string all(const std::vector<Diagnostic>& findings) {
  std::string text;
  for (const Diagnostic& finding : findings) text += finding.to_string() + "\n";
  return text;
}

constexpr std::string_view kFirstHour = R"(apiVersion: meshd/v1                       # /etc/meshd/meshd.yaml
agent: {cgroups: [/system.slice/shop.service]}        # the whole host must be typed: [/]
defaults: {balance: round_robin, probe: {type: tcp, interval: 5s, timeout: 1s, rise: 2, fall: 3}}
services:
  - name: orders
    address: 240.64.0.10:80
    probe: {type: http, path: /healthz}
    endpoints: [{address: 10.0.0.11:8080, weight: 2}, {address: 10.0.0.12:8080}]
  - {name: cache, address: 240.64.0.11:6379, balance: maglev, file: /etc/meshd/endpoints/cache.json}
)";

TEST(Config, the_first_hour_example_means_what_it_says) {
  const LoadResult result = parse(std::string(kFirstHour));
  ASSERT_TRUE(result.good()) << all(result.errors);
  EXPECT_EQ(all(result.warnings), "");
  const Config& config = result.config;
  EXPECT_THAT(config.agent.cgroups, testing::ElementsAre("/system.slice/shop.service"));
  ASSERT_EQ(config.services.size(), 1u);
  const model::Service& orders = *config.services[0];
  EXPECT_EQ(orders.name, "orders");
  EXPECT_EQ(orders.frontend.to_string(), "240.64.0.10:80/tcp");
  EXPECT_EQ(orders.algorithm, model::Algorithm::kRoundRobin);
  EXPECT_EQ(orders.origin, "meshd.yaml:5");
  ASSERT_EQ(orders.endpoints.size(), 2u);
  EXPECT_EQ(orders.endpoints[0].weight, 2);
  EXPECT_EQ(orders.endpoints[1].weight, 1);
  ASSERT_TRUE(orders.probe);
  EXPECT_EQ(orders.probe->type, model::ProbeType::kHttp);
  EXPECT_EQ(orders.probe->path, "/healthz");
  EXPECT_EQ(orders.probe->rise, 2u);
  ASSERT_EQ(config.files.size(), 1u);
  EXPECT_EQ(config.files[0].path, "/etc/meshd/endpoints/cache.json");
  EXPECT_EQ(config.files[0].service->algorithm, model::Algorithm::kMaglev);
  EXPECT_EQ(config.files[0].service->probe->type, model::ProbeType::kTcp);
}

TEST(Config, what_show_prints_is_read_back_to_the_same) {
  const LoadResult first = parse(std::string(kFirstHour));
  for (const Format format : {Format::kYaml, Format::kJson}) {
    const std::string shown = show_config(first.config, format);
    const LoadResult second = parse(shown);
    ASSERT_TRUE(second.good()) << shown << all(second.errors);
    EXPECT_EQ(show_config(second.config, format), shown);
    EXPECT_EQ(second.config.agent, first.config.agent);
  }
}

TEST(Config, the_embedded_default_is_good) {
  const LoadResult result = parse(std::string(default_config_text()));
  EXPECT_TRUE(result.good()) << all(result.errors);
}

}  // namespace
}  // namespace mesh::app
