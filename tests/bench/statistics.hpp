// SPDX-License-Identifier: Apache-2.0
// What a benchmark says about a handful of noisy numbers: medians with an interval that assumes no distribution.
// Pure; tests/unit/bench holds it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "base/error.hpp"

namespace mesh::bench {

struct Interval {
  double low = 0;
  double median = 0;
  double high = 0;
};

/// Nearest-rank quantile, q in [0, 1]. `values` is not empty.
[[nodiscard]] inline double quantile(std::vector<double> values, double q) {
  MESH_ASSERT(!values.empty());
  std::ranges::sort(values);
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size())));
  return values[std::min(values.size() - 1, rank == 0 ? 0 : rank - 1)];
}

/// The median and its 95 % interval from order statistics: the ranks (n -+ 1.96 sqrt(n)) / 2 enclose the true median
/// with that probability whatever the distribution is (Conover, Practical Nonparametric Statistics, section 3.2).
/// Below six values no rank is far enough out: the interval is then the whole range.
[[nodiscard]] inline Interval median_interval(std::vector<double> values) {
  MESH_ASSERT(!values.empty());
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  const double reach = 1.96 * std::sqrt(count);
  const auto low = static_cast<std::size_t>(std::max(0.0, std::floor((count - reach) / 2)));
  const auto high = static_cast<std::size_t>(std::min(count - 1, std::ceil((count + reach) / 2)));
  const std::size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {.low = values[low], .median = median, .high = values[high]};
}

}  // namespace mesh::bench
