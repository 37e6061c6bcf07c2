// SPDX-License-Identifier: Apache-2.0
// The rules and the dashboard in deploy/daemonset/monitoring speak of metrics that exist, and each alert says what to
// do.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "base/fd.hpp"
#include "observe/metrics.hpp"

namespace mesh::observe {
namespace {

constexpr std::size_t kMax = 1 << 20;

std::string read(const std::string& path) {
  auto text = base::read_file(MESH_SOURCE_DIR "/" + path, kMax);
  EXPECT_TRUE(text) << path;
  return text.value_or("");
}

std::set<std::string> all(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
    found.insert((*match)[1]);
  return found;
}

/// "#anchor" of each heading, as GitHub makes it.
std::set<std::string> anchors(const std::string& page) {
  std::set<std::string> found;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('#')) continue;
    std::string anchor;
    for (const char c : line.substr(line.find(' ') + 1)) {
      if (c == ' ') anchor += '-';
      if (c == '-' || std::isalnum(static_cast<unsigned char>(c)) != 0) {
        anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      }
    }
    found.insert(anchor);
  }
  return found;
}

/// Metrics that an expression names: without what a histogram adds to its name.
void expect_exist(const std::set<std::string>& named) {
  std::set<std::string> known;
  for (const MetricName& metric : metric_names()) known.insert(metric.name);
  EXPECT_FALSE(named.empty());
  for (const std::string& name : named) {
    EXPECT_TRUE(known.contains(std::regex_replace(name, std::regex("_(bucket|sum|count)$"), ""))) << name;
  }
}

constexpr const char* kMetric = "\\b((?:mesh|process)_[a-z0-9_]+)";

TEST(Monitoring, each_alert_has_a_runbook_and_there_are_exactly_these) {
  const std::string rules = read("deploy/daemonset/monitoring/meshd.rules.yaml");
  const std::set<std::string> alerts{"MeshAgentAbsent",
                                     "MeshCanaryFailed",
                                     "MeshDriftNotRepaired",
                                     "MeshSourceStale",
                                     "MeshMapHigh",
                                     "MeshPanic",
                                     "MeshNoUsableEndpoint",
                                     "MeshConfigReloadFailed",
                                     "MeshEventsDropped",
                                     "MeshCertificateExpires",
                                     "MeshCertificateRefused",
                                     "MeshAcmeFailing",
                                     "MeshPlaintextEnds"};
  EXPECT_EQ(all(rules, "alert: (\\w+)"), alerts);
  const auto runbooks = all(rules, "runbook_url: docs/operations.md#(\\S+)");
  EXPECT_EQ(runbooks.size(), alerts.size());
  const auto known = anchors(read("docs/operations.md"));
  for (const std::string& runbook : runbooks) EXPECT_TRUE(known.contains(runbook)) << "docs/operations.md#" << runbook;
  const std::string tests = read("deploy/daemonset/monitoring/meshd.rules.test.yaml");
  for (const std::string& alert : alerts) {
    EXPECT_NE(tests.find("alertname: " + alert + "\n        exp_alerts:"), std::string::npos)
        << alert << " is untested";
  }
}

TEST(Monitoring, rules_and_dashboard_name_metrics_that_exist) {
  expect_exist(all(read("deploy/daemonset/monitoring/meshd.rules.yaml"), "expr: .*?" + std::string(kMetric)));
  const auto dashboard = nlohmann::json::parse(read("deploy/daemonset/monitoring/meshd.dashboard.json"));
  std::string expressions;
  for (const auto& panel : dashboard.at("panels")) {
    for (const auto& target : panel.value("targets", nlohmann::json::array())) {
      expressions += target.at("expr").get<std::string>() + "\n";
    }
  }
  expect_exist(all(expressions, kMetric));
}

}  // namespace
}  // namespace mesh::observe
