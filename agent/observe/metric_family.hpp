// SPDX-License-Identifier: Apache-2.0
// A family of metrics while it is filled; internal to the metrics page.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace mesh::observe {

using Labels = std::vector<prometheus::ClientMetric::Label>;

inline double number(std::uint64_t value) { return static_cast<double>(value); }

class Family {
 public:
  Family(std::string name, std::string help, prometheus::MetricType type) {
    family_.name = std::move(name);
    family_.help = std::move(help);
    family_.type = type;
  }
  void add(Labels labels, double value) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    (family_.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void add_histogram(Labels labels, const std::vector<double>& bounds_s, const std::vector<std::uint64_t>& counts,
                     double sum_s) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      total += counts[i];
      const double bound = i < bounds_s.size() ? bounds_s[i] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({total, bound});
    }
    metric.histogram.sample_count = total;
    metric.histogram.sample_sum = sum_s;
  }
  [[nodiscard]] prometheus::MetricFamily take() && { return std::move(family_); }

 private:
  prometheus::MetricFamily family_;
};

/// Lines that a family takes on the page.
inline std::uint64_t series_of(const prometheus::MetricFamily& family) {
  std::uint64_t series = 0;
  for (const prometheus::ClientMetric& metric : family.metric) {
    series += family.type == prometheus::MetricType::Histogram ? metric.histogram.bucket.size() + 2 : 1;
  }
  return series;
}

}  // namespace mesh::observe
