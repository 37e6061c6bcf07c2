// SPDX-License-Identifier: Apache-2.0
// Whether tests/doubles/eureka_double.py is a Eureka to others than us: Prometheus reads its XML, eureka-js-client its
// JSON, deltas and leases.
#include "tests/support/eureka_double.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/peer.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;
using Json = EurekaServer::Json;

class EurekaDouble : public ::testing::Test {
 protected:
  EurekaDouble() : folder_("/tmp/eureka-interop-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directories(folder_);
    server_.emplace(EurekaServer::Where{.folder = folder_});
  }
  ~EurekaDouble() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string folder_;
  std::optional<EurekaServer> server_;
};

TEST_F(EurekaDouble, is_a_eureka_to_prometheus) {
  if (!have_program("prometheus")) GTEST_SKIP() << "SKIPPED: prometheus is not installed (scripts/setup --interop)";
  const std::string orders = EurekaServer::app("orders");
  server_->add(orders, "a", "10.0.0.1", 8080, {{"metadata", {{"zone", "z1"}}}});
  server_->add(orders, "b", "10.0.0.2", 8081);
  server_->order(orders, "b", "OUT_OF_SERVICE");
  std::ofstream(folder_ + "/prometheus.yml") << fmt::format(
      "scrape_configs:\n  - job_name: eureka\n    scrape_interval: 60s\n    eureka_sd_configs:\n"
      "      - server: {}\n        refresh_interval: 1s\n",
      server_->url());
  const std::uint16_t port = free_port();
  const Process prometheus = Process::start(
      {.output = folder_ + "/prometheus.log"},
      {"prometheus", "--config.file=" + folder_ + "/prometheus.yml", "--storage.tsdb.path=" + folder_ + "/data",
       fmt::format("--web.listen-address=127.0.0.1:{}", port), "--log.level=warn"});
  const auto targets = [&] {
    const Output output =
        run({"curl", "-sS", "-m", "5", fmt::format("http://127.0.0.1:{}/api/v1/targets?state=active", port)});
    const Json answer = Json::parse(output.text, nullptr, false);
    std::map<std::string, std::string> found;
    if (!answer.is_object() || !answer.contains("data")) return found;
    for (const Json& target : answer["data"]["activeTargets"]) {
      const Json& labels = target["discoveredLabels"];
      found[labels.value("__address__", "")] = labels.value("__meta_eureka_app_name", "") + " " +
                                               labels.value("__meta_eureka_app_instance_ip_addr", "") + " " +
                                               labels.value("__meta_eureka_app_instance_port", "") + " " +
                                               labels.value("__meta_eureka_app_instance_status", "") + " " +
                                               labels.value("__meta_eureka_app_instance_metadata_zone", "none");
    }
    return found;
  };
  const std::map<std::string, std::string> wanted = {{"a:8080", orders + " 10.0.0.1 8080 UP z1"},
                                                     {"b:8081", orders + " 10.0.0.2 8081 OUT_OF_SERVICE none"}};
  EXPECT_TRUE(eventually(60s, [&] { return targets() == wanted; })) << ::testing::PrintToString(targets());
  server_->remove(orders, "b");
  EXPECT_TRUE(eventually(30s, [&] { return targets().size() == 1; })) << ::testing::PrintToString(targets());
}

/// Runs as `node -e`: registers, sees itself and others by whole answers and by deltas, renews, and goes.
constexpr const char* kProgram = R"JS(
const { Eureka } = require('eureka-js-client');
const [host, port] = new URL(process.argv[1]).host.split(':');
const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const make = (id, app, shouldUseDelta) => new Eureka({
  logger: quiet,
  instance: { instanceId: id, app, hostName: id, ipAddr: '10.0.0.' + id.length, vipAddress: app,
              port: { $: 8080, '@enabled': true }, dataCenterInfo: { name: 'MyOwn' } },
  eureka: { host, port: Number(port), servicePath: '/eureka/apps/', heartbeatInterval: 200,
            registryFetchInterval: 200, maxRetries: 1, filterUpInstances: false },
  shouldUseDelta,
});
const started = (client) => new Promise((good, bad) => client.start((error) => error ? bad(error) : good()));
const stopped = (client) => new Promise((good) => client.stop(good));
const until = async (what, condition) => {
  for (let i = 0; i < 100; ++i) {
    if (condition()) return;
    await new Promise((go) => setTimeout(go, 100));
  }
  throw new Error('never: ' + what);
};
(async () => {
  const first = make('one', 'shop', true);
  await started(first);
  await until('sees itself', () => first.getInstancesByAppId('SHOP').length === 1);
  const second = make('second', 'cart', false);
  await started(second);
  await until('a delta adds', () => first.getInstancesByAppId('CART').length === 1);
  const found = first.getInstancesByVipAddress('cart')[0];
  if (found.port.$ !== 8080 || found.status !== 'UP') throw new Error(JSON.stringify(found));
  await stopped(second);
  await until('a delta removes', () => first.getInstancesByAppId('CART').length === 0);
  await stopped(first);
  console.log('done');
})().catch((error) => { console.error(error); process.exit(1); });
)JS";

TEST_F(EurekaDouble, is_a_eureka_to_eureka_js_client) {
  if (!have_program("node") || run({"node", "-e", "require.resolve('eureka-js-client')"}).code != 0) {
    GTEST_SKIP() << "SKIPPED: no eureka-js-client (npm install eureka-js-client, and NODE_PATH names its node_modules)";
  }
  const Output output = run({"node", "-e", kProgram, server_->url()}, {}, 60s);
  EXPECT_EQ(output.code, 0);
  EXPECT_EQ(output.text, "done\n") << output.errors;
  const Json stats = server_->control("GET", "/stats");
  EXPECT_GE(stats.value("/apps/delta", 0), 2);
  EXPECT_GE(stats.value("renewals", 0), 2);
}

}  // namespace
}  // namespace mesh::test
