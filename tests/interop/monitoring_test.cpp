// SPDX-License-Identifier: Apache-2.0
// A real Prometheus scrapes a real agent: its rules are accepted and tested, every panel of the dashboard has data, and
// so has what Kiali asks.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <regex>

#include "base/fd.hpp"
#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

const std::string kFolder = MESH_SOURCE_DIR "/deploy/daemonset/monitoring/";
constexpr int kPrometheusPort = 19090;

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << name << " is not installed (scripts/setup --interop)"

TEST(MonitoringRules, promtool_accepts_them_and_their_tests_pass) {
  NEED_PROGRAM("promtool");
  for (const char* what : {"check", "test"}) {
    const std::string file = kFolder + (std::string(what) == "check" ? "meshd.rules.yaml" : "meshd.rules.test.yaml");
    const Output output = run({"promtool", what, "rules", file});
    EXPECT_EQ(output.code, 0) << output.text << output.errors;
  }
}

class DashboardTest : public AgentTest {
 protected:
  void TearDown() override {
    load_.clear();
    prometheus_.kill();
    AgentTest::TearDown();
  }

  /// Prometheus on the loopback of the agent's host.
  void start_prometheus(int agent_port) {
    const std::string config = lab_->write_file(
        "prometheus/prometheus.yml",
        fmt::format("global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}meshd.rules.yaml]\n"
                    "scrape_configs:\n  - job_name: meshd\n    static_configs: [{{targets: [\"127.0.0.1:{}\"]}}]\n",
                    kFolder, agent_port));
    prometheus_ =
        Process::start(lab_->on(*node_, "others", "prometheus.log"),
                       {"prometheus", "--config.file=" + config,
                        "--storage.tsdb.path=" + (lab_->folder() / "prometheus/data").string(),
                        fmt::format("--web.listen-address=127.0.0.1:{}", kPrometheusPort), "--log.level=warn"});
  }

  /// What an expression has now; nothing if Prometheus doesn't answer.
  std::optional<Json> ask(const std::string& expression) {
    const Output output = run({"curl", "-sS", "-m", "5", "--data-urlencode", "query=" + expression,
                               fmt::format("http://127.0.0.1:{}/api/v1/query", kPrometheusPort)},
                              lab_->on(*node_, "others"));
    const Json answer = Json::parse(output.text, nullptr, false);
    if (answer.is_discarded() || answer.value("status", "") != "success") return {};
    return answer.at("data").at("result");
  }

  /// Samples that an expression has now; those that are no number don't count.
  int samples(const std::string& expression) {
    const std::optional<Json> answer = ask(expression);
    if (!answer) return -1;
    int count = 0;
    for (const Json& sample : *answer) {
      count += std::isfinite(std::stod(sample.at("value").at(1).get<std::string>())) ? 1 : 0;
    }
    return count;
  }

  /// The edges "source -> service" that Kiali's graph of a namespace has, and what it leaves out. Kiali itself is in no
  /// Debian; these are its questions and its conditions (graph/telemetry/istio in github.com/kiali/kiali).
  std::vector<std::string> kiali_edges(const std::string& space) {
    std::vector<std::string> edges;
    for (const char* source : {"source_workload_namespace!=\"{0}\",source_workload!=\"unknown\","
                               "destination_service_namespace=\"{0}\"",
                               "source_workload_namespace=\"{0}\""}) {
      std::vector<std::string> labels;
      for (const char* side : {"source", "destination"}) {
        for (const char* what :
             {"cluster", "workload_namespace", "workload", "canonical_service", "canonical_revision"}) {
          labels.push_back(fmt::format("{}_{}", side, what));
        }
      }
      labels.insert(labels.end(), {"destination_service_namespace", "destination_service", "destination_service_name",
                                   "response_flags"});
      const std::optional<Json> answer = ask(fmt::format(
          "sum(rate(istio_tcp_sent_bytes_total{{app!=\"ztunnel\",reporter=\"source\",{}}}[10s])) by ({}) > 0",
          fmt::format(fmt::runtime(source), space), fmt::join(labels, ",")));
      for (const Json& sample : answer.value_or(Json::array())) {
        const Json& metric = sample.at("metric");
        const auto known = [&](const std::string& label) {
          return metric.contains(label) && metric[label] != "" && metric[label] != "unknown";
        };
        const bool whole = std::ranges::all_of(labels, [&](const auto& label) { return metric.contains(label); });
        const bool bad_source =
            known("source_workload_namespace") &&
            (!known("source_cluster") || (!known("source_workload") && !known("source_canonical_service")));
        const bool bad_destination = known("destination_service_namespace") && !known("destination_cluster");
        edges.push_back(fmt::format("{}{} -> {}", whole && !bad_source && !bad_destination ? "" : "left out: ",
                                    metric.value("source_workload", "?"), metric.value("destination_service", "?")));
      }
    }
    return edges;
  }

  std::vector<Process> load_;
  Process prometheus_;
};

/// As Grafana puts values into a query: everything selected, and an interval that spans several scrapes.
std::string substituted(std::string expression) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"\\$__rate_interval", "10s"}, {"\\$[a-z]+", ".*"}}) {
    expression = std::regex_replace(expression, std::regex(name), value);
  }
  return expression;
}

TEST_F(DashboardTest, every_panel_has_data_of_a_real_agent) {
  NEED_PROGRAM("prometheus");
  NEED_PROGRAM("curl");
  add_servers(1);
  const auto body = [&](const std::string& more) {
    return fmt::format(
        "services:\n"
        "  - {{name: web, address: \"240.64.0.10:80\", probe: {{type: tcp, interval: 1s, timeout: 500ms}}, "
        "endpoints: [{{address: \"{0}\"}}]}}\n"
        "  - {{name: broken, address: \"240.64.0.11:80\", endpoints: [{{address: \"{1}\"}}]}}\n"
        "  - {{name: empty, address: \"240.64.0.12:80\", endpoints: []}}\n{2}",
        hosts_[0]->v4(7000), hosts_[0]->v4(9), more);
  };
  start_agent({.body = body("")});
  start_prometheus(agent_->metrics_port());
  ASSERT_TRUE(eventually(seconds(20), [&] { return samples("mesh_healthy") > 0; })) << "Prometheus has no answer";

  load_.push_back(Process::start(app(), [] {
    while (true) {
      for (const char* address : {"240.64.0.10:80", "240.64.0.11:80", "240.64.0.12:80"}) {
        call({}, Via::kTcp, address, 5, std::chrono::milliseconds(200));
        ::usleep(20'000);
      }
    }
    return 0;
  }));
  agent_->reconfigure(body(fmt::format(
      "  - {{name: late, address: \"240.64.0.13:80\", endpoints: [{{address: \"{}\"}}]}}\n", hosts_[0]->v4(7000))));

  const auto text = base::read_file(kFolder + "meshd.dashboard.json", 1 << 20);
  ASSERT_TRUE(text) << text.error().to_string();
  int queries = 0;
  for (const Json& panel : Json::parse(*text).at("panels")) {
    if (panel.at("type") == "row") continue;
    ASSERT_FALSE(panel.at("targets").empty()) << panel.at("title");
    for (const Json& target : panel.at("targets")) {
      const std::string expression = substituted(target.at("expr"));
      ++queries;
      EXPECT_TRUE(eventually(seconds(20), [&] { return samples(expression) > 0; }))
          << panel.at("title") << " is empty: " << expression;
    }
  }
  EXPECT_GT(queries, 20);
  for (const char* recorded : {"mesh:connects:rate5m", "mesh:failures:rate5m", "mesh:failure_ratio:rate5m",
                               "mesh:connect_latency_seconds:p99_5m", "mesh:map_fill:ratio"}) {
    EXPECT_TRUE(eventually(seconds(20), [&] { return samples(recorded) > 0; })) << recorded;
  }
  EXPECT_TRUE(eventually(seconds(10), [&] { return samples("ALERTS{alertname=\"MeshNoUsableEndpoint\"}") > 0; }));
}

TEST_F(DashboardTest, kiali_draws_an_edge_for_each_service) {
  NEED_PROGRAM("prometheus");
  NEED_PROGRAM("curl");
  add_servers(1);
  start_agent({.more_metrics = "istio: true",
               .body = fmt::format("services:\n  - {{name: shop/orders, address: \"240.64.0.10:80\", "
                                   "endpoints: [{{address: \"{}\"}}]}}\n",
                                   hosts_[0]->v4(7000))});
  start_prometheus(agent_->metrics_port());
  load_.push_back(Process::start(app(), [] {
    while (true) {
      call({}, Via::kTcp, "240.64.0.10:80", 5, std::chrono::milliseconds(200));
      ::usleep(20'000);
    }
    return 0;
  }));
  const std::vector<std::string> drawn{"apps -> orders.shop.svc.cluster.local"};
  EXPECT_TRUE(eventually(seconds(30), [&] { return kiali_edges("shop") == drawn; }))
      << fmt::format("{}", fmt::join(kiali_edges("shop"), "; "));
  EXPECT_TRUE(kiali_edges("elsewhere").empty());
}

}  // namespace
}  // namespace mesh::test
