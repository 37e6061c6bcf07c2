// SPDX-License-Identifier: Apache-2.0
#include "observe/metrics.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/fd.hpp"
#include "mesh_reasons.h"
#include "tests/support/fake_admin_backend.hpp"

namespace mesh::observe {
namespace {

/// A page with something in every family.
MetricsInput full_input() {
  test::FakeAdminBackend backend;
  MetricsInput input;
  input.version = backend.version();
  input.status = backend.status_value;
  input.status.sources[0].name = "fi\"le\n\\";
  input.probes.types[1].results[static_cast<std::size_t>(model::ProbeReason::kTimeout)] = 3;
  input.probes.types[1].durations[2] = 3;
  input.probes.loop = "epoll";
  input.endpoints = {2, 0, 0, 0, 0, 1, 0};
  input.services = {{"orders",
                     80,
                     model::Protocol::kTcp,
                     {.connects = 120, .refused = 5, .refused_no_backend = 2},
                     {1, 0, 0, 0, 1, 0}},
                    {"cache", 6379, model::Protocol::kTcp, {.connects = 7}, {1}}};
  ServiceMetrics& orders = input.services[0];
  orders.feedback = true;
  orders.active = 4;
  orders.ejections = {.consecutive = 3, .rate = 2, .relapse = 1, .withheld = 4};
  orders.experience.established = 100;
  orders.experience.ended[MESH_CLOSED] = 96;
  orders.experience.ended[MESH_REFUSED] = 20;
  orders.experience.bytes_in = 4096;
  orders.experience.connect_us = 250'000;
  orders.experience.latency[3] = 10;   // 8 to 15 us
  orders.experience.latency[11] = 89;  // 2048 to 4095 us
  orders.experience.latency[MESH_LATENCY_BUCKETS - 1] = 1;
  orders.backends = {{"10.0.0.1:8080",
                      {.opened = 120, .closed = 116, .established = 100, .failed = 20, .srtt_us = 250},
                      {.bytes_in = 4096},
                      0.002}};
  input.apply_duration.observe(std::chrono::microseconds(120));
  input.process = read_process_usage();
  return input;
}

std::string page_text(const MetricsInput& input) { return render_metrics(input).text; }

bool has_line(const std::string& text, const std::string& line) {
  return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(Metrics, promtool_accepts_the_page) {
  if (std::system("command -v promtool >/dev/null") != 0)
    GTEST_SKIP() << "SKIPPED: promtool is not installed (package prometheus)";
  const auto path = std::filesystem::temp_directory_path() / ("mesh-metrics-" + std::to_string(::getpid()));
  MetricsInput with_istio = full_input();
  with_istio.istio.emplace();
  for (const MetricsInput& input : {full_input(), with_istio, MetricsInput{}}) {
    std::ofstream(path) << page_text(input);
    EXPECT_EQ(std::system(("promtool check metrics < " + path.string()).c_str()), 0);
  }
  std::filesystem::remove(path);
}

TEST(Metrics, values_and_labels_are_where_dashboards_look_for_them) {
  const std::string text = page_text(full_input());
  for (const char* line :
       {"mesh_healthy 1",
        "mesh_build_info{version=\"0.1.0\",revision=\"abc123\",compiler=\"clang 19\",layout=\"1.0\"} 1",
        "mesh_hook_effective{cgroup=\"/system.slice/shop.service\",hook=\"connect4\"} 1",
        "mesh_map_entries{map=\"slots\"} 1049",
        "mesh_map_memory_bytes{map=\"events\"} 4210688",
        "mesh_endpoints{state=\"probe_down\"} 1",
        "mesh_probe_results_total{type=\"http\",result=\"timeout\"} 3",
        "mesh_service_connects_total{service=\"orders\",port=\"80\",protocol=\"tcp\"} 120",
        "mesh_service_refused_total{service=\"orders\",port=\"80\",protocol=\"tcp\",reason=\"no_backend\"} 2",
        "mesh_service_refused_total{service=\"orders\",port=\"80\",protocol=\"tcp\",reason=\"other\"} 3",
        "mesh_service_active_connections{service=\"orders\",port=\"80\",protocol=\"tcp\"} 4",
        "mesh_ejections_total{service=\"orders\",port=\"80\",protocol=\"tcp\",reason=\"failure_rate\"} 2",
        "mesh_ejections_withheld_total{service=\"orders\",port=\"80\",protocol=\"tcp\"} 4",
        "mesh_service_established_total{service=\"orders\",port=\"80\",protocol=\"tcp\"} 100",
        "mesh_service_ended_total{service=\"orders\",port=\"80\",protocol=\"tcp\",outcome=\"refused\"} 20",
        "mesh_service_received_bytes_total{service=\"orders\",port=\"80\",protocol=\"tcp\"} 4096",
        "mesh_connect_latency_seconds_bucket{service=\"orders\",port=\"80\",protocol=\"tcp\",le=\"6.4e-05\"} 10",
        "mesh_connect_latency_seconds_bucket{service=\"orders\",port=\"80\",protocol=\"tcp\",le=\"0.002048\"} 10",
        "mesh_connect_latency_seconds_bucket{service=\"orders\",port=\"80\",protocol=\"tcp\",le=\"0.004096\"} 99",
        "mesh_connect_latency_seconds_count{service=\"orders\",port=\"80\",protocol=\"tcp\"} 100",
        "mesh_connect_latency_seconds_sum{service=\"orders\",port=\"80\",protocol=\"tcp\"} 0.25",
        "mesh_backend_active_connections{service=\"orders\",port=\"80\",protocol=\"tcp\",backend=\"10.0.0.1:8080\"} 4",
        "mesh_backend_srtt_seconds{service=\"orders\",port=\"80\",protocol=\"tcp\",backend=\"10.0.0.1:8080\"} 0.00025",
        "mesh_apply_duration_seconds_bucket{le=\"0.0001\"} 0",
        "mesh_apply_duration_seconds_bucket{le=\"0.00025\"} 1",
        "mesh_source_updates_total{source=\"fi\\\"le\\n\\\\\"} 1"}) {
    EXPECT_TRUE(has_line(text, line)) << line << "\n" << text;
  }
}

TEST(Metrics, the_istio_family_has_every_label_that_kiali_groups_by) {
  MetricsInput input = full_input();
  input.services[0].name = "shop/orders";
  EXPECT_EQ(page_text(input).find("istio_"), std::string::npos) << "only on demand";
  input.istio = IstioSource{.cluster = "east", .workload = "frontend"};
  std::istringstream lines(page_text(input));
  std::map<std::string, double> values;  // by name and response_flags
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("istio_")) continue;
    for (const char* label : {"reporter",
                              "app",
                              "source_cluster",
                              "source_workload_namespace",
                              "source_workload",
                              "source_principal",
                              "source_app",
                              "source_version",
                              "source_canonical_service",
                              "source_canonical_revision",
                              "destination_cluster",
                              "destination_service_namespace",
                              "destination_service",
                              "destination_service_name",
                              "destination_workload_namespace",
                              "destination_workload",
                              "destination_principal",
                              "destination_app",
                              "destination_version",
                              "destination_canonical_service",
                              "destination_canonical_revision",
                              "request_protocol",
                              "response_flags",
                              "connection_security_policy"}) {
      const std::size_t at = line.find(std::string(label) + "=\"");
      ASSERT_NE(at, std::string::npos) << label << " is missing: Kiali would skip " << line;
      EXPECT_NE(line[at + std::string_view(label).size() + 2], '"') << label << " is empty in " << line;
    }
    EXPECT_NE(line.find("destination_service=\"orders.shop.svc.cluster.local\""), std::string::npos) << line;
    EXPECT_NE(line.find("source_cluster=\"east\""), std::string::npos) << line;
    EXPECT_NE(line.find("destination_cluster=\"east\""), std::string::npos) << line;
    const std::size_t flags = line.find("response_flags=\"") + 16;
    values[line.substr(0, line.find('{')) + " " + line.substr(flags, line.find('"', flags) - flags)] =
        std::stod(line.substr(line.rfind(' ')));
  }
  const std::map<std::string, double> expected{
      {"istio_tcp_connections_opened_total -", 100}, {"istio_tcp_connections_opened_total UF", 20},
      {"istio_tcp_connections_opened_total UH", 2},  {"istio_tcp_connections_closed_total -", 96},
      {"istio_tcp_sent_bytes_total -", 4096},        {"istio_tcp_received_bytes_total -", 0}};
  EXPECT_EQ(values, expected);
}

TEST(Metrics, known_label_sets_begin_at_zero) {
  const std::string text = page_text({});
  for (const char* line :
       {"mesh_probe_results_total{type=\"grpc\",result=\"tls\"} 0", "mesh_config_reloads_total{result=\"failed\"} 0",
        "mesh_endpoints{state=\"panic\"} 0", "mesh_metrics_series_dropped_total 0"}) {
    EXPECT_TRUE(has_line(text, line)) << line;
  }
#define MESH_REASON_LINE(name, label, meaning) \
  EXPECT_EQ(has_line(text, "mesh_reasons_total{reason=\"" label "\"} 0"), std::string_view(label) != "none") << label;
  MESH_REASONS(MESH_REASON_LINE)
#undef MESH_REASON_LINE
}

TEST(Metrics, series_are_bounded_and_what_is_left_out_is_counted) {
  MetricsInput input;
  const std::uint64_t base = render_metrics(input).series;
  for (unsigned i = 0; i < 10'000; ++i) {
    input.services.push_back({"s" + std::to_string(i), 80, model::Protocol::kTcp, {.connects = i}, {}});
  }
  input.max_series = base + 100;
  input.series_dropped_before = 5;
  const MetricsPage page = render_metrics(input);
  EXPECT_LE(page.series, input.max_series);
  EXPECT_GT(page.series, base);
  EXPECT_NE(page.text.find("service=\"s9999\""), std::string::npos) << "the busiest stay";
  EXPECT_EQ(page.text.find("service=\"s1\""), std::string::npos);
  EXPECT_TRUE(has_line(page.text, "mesh_metrics_series_dropped_total " + std::to_string(page.series_dropped + 5)));
  input.max_series = 1'000'000;
  EXPECT_EQ(render_metrics(input).series_dropped, 0U);
  EXPECT_EQ(render_metrics(input).series, page.series + page.series_dropped);
}

TEST(Metrics, backends_take_what_services_leave_and_are_counted_too) {
  MetricsInput input = full_input();
  input.services.resize(1);
  input.services[0].backends.resize(1000, input.services[0].backends[0]);
  for (std::size_t i = 0; i < 1000; ++i) input.services[0].backends[i].address = "10.0.0.1:" + std::to_string(i + 1);
  input.max_series = 1'000'000;
  const std::uint64_t whole = render_metrics(input).series;
  input.max_series = whole - 5000;
  const MetricsPage page = render_metrics(input);
  EXPECT_EQ(page.series + page.series_dropped, whole);
  EXPECT_LE(page.series, input.max_series);
  EXPECT_NE(page.text.find("mesh_connect_latency_seconds_bucket"), std::string::npos) << "the service stays";
}

TEST(Metrics, a_service_without_feedback_has_no_series_of_it) {
  MetricsInput input = full_input();
  input.services[0].feedback = false;
  const std::string text = page_text(input);
  EXPECT_EQ(text.find("mesh_service_ended_total{"), std::string::npos);
  EXPECT_EQ(text.find("mesh_connect_latency_seconds_bucket{"), std::string::npos);
  EXPECT_NE(text.find("mesh_service_active_connections{"), std::string::npos);
}

TEST(Metrics, services_that_differ_only_in_address_are_added_up) {
  MetricsInput input;
  input.services = {{"dual", 80, model::Protocol::kTcp, {.connects = 1}, {}},
                    {"dual", 80, model::Protocol::kTcp, {.connects = 2}, {}}};
  for (ServiceMetrics& service : input.services) {
    service.backends = {{"10.0.0.1:8080", {.opened = 1}, {}, 0}, {"10.0.0.2:8080", {.opened = 7}, {}, 0}};
  }
  EXPECT_TRUE(
      has_line(page_text(input),
               "mesh_backend_opened_total{service=\"dual\",port=\"80\",protocol=\"tcp\",backend=\"10.0.0.1:8080\"} 2"));
  EXPECT_TRUE(has_line(
      page_text(input),
      "mesh_backend_opened_total{service=\"dual\",port=\"80\",protocol=\"tcp\",backend=\"10.0.0.2:8080\"} 14"));
  EXPECT_TRUE(
      has_line(page_text(input), "mesh_service_connects_total{service=\"dual\",port=\"80\",protocol=\"tcp\"} 3"));
}

TEST(Metrics, the_number_of_series_is_the_number_of_lines) {
  const MetricsPage page = render_metrics(full_input());
  std::uint64_t lines = 0;
  std::istringstream stream(page.text);
  for (std::string line; std::getline(stream, line);) lines += !line.empty() && line[0] != '#' ? 1 : 0;
  EXPECT_EQ(page.series, lines);
}

TEST(Metrics, every_metric_is_documented_and_nothing_else_is) {
  const auto document = base::read_file(MESH_SOURCE_DIR "/docs/metrics.md", 1 << 20);
  ASSERT_TRUE(document) << document.error().to_string();
  std::set<std::string> documented;
  std::istringstream lines(*document);
  for (std::string line; std::getline(lines, line);) {  // | `name` | type | labels | meaning |
    if (!line.starts_with("| `")) continue;
    const std::string name = line.substr(3, line.find('`', 3) - 3);
    const bool alert = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos;
    if (!alert) documented.insert(name);
  }
  for (const MetricName& metric : metric_names()) {
    EXPECT_TRUE(documented.erase(metric.name) == 1) << metric.name << " is missing in docs/metrics.md";
    EXPECT_NE(document->find("| `" + metric.name + "` | " + metric.type + " |"), std::string::npos) << metric.name;
  }
  for (const std::string& name : documented) ADD_FAILURE() << name << " is documented but does not exist";
}

TEST(ProcessUsage, knows_this_process) {
  const ProcessUsage usage = read_process_usage();
  EXPECT_GT(usage.resident_bytes, 1U << 20);
  EXPECT_GT(usage.open_fds, 2U);
  EXPECT_GT(usage.max_fds, usage.open_fds);
  const auto now = std::chrono::duration<double>(base::wall_now().time_since_epoch()).count();
  EXPECT_LE(usage.start_time_seconds, now + 1);
  EXPECT_GT(usage.start_time_seconds, now - 24 * 3600);
}

}  // namespace
}  // namespace mesh::observe
