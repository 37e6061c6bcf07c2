// SPDX-License-Identifier: Apache-2.0
// Durations counted in buckets, for one metric. One thread writes and reads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/clock.hpp"

namespace mesh::observe {

class Histogram {
 public:
  /// `bounds_s` ascending, in seconds; a last bucket takes what is longer.
  explicit Histogram(std::vector<double> bounds_s) : bounds_s_(std::move(bounds_s)), counts_(bounds_s_.size() + 1) {}

  void observe(base::Duration duration) {
    const double seconds = std::chrono::duration<double>(duration).count();
    const auto bucket = std::lower_bound(bounds_s_.begin(), bounds_s_.end(), seconds) - bounds_s_.begin();
    ++counts_[static_cast<std::size_t>(bucket)];
    sum_s_ += seconds;
  }

  [[nodiscard]] const std::vector<double>& bounds_s() const { return bounds_s_; }
  [[nodiscard]] const std::vector<std::uint64_t>& counts() const { return counts_; }  ///< not cumulative
  [[nodiscard]] double sum_s() const { return sum_s_; }

 private:
  std::vector<double> bounds_s_;
  std::vector<std::uint64_t> counts_;
  double sum_s_ = 0;
};

/// For what the agent does by itself: 50 us to 1 s.
inline Histogram make_work_histogram() {
  return Histogram({50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1});
}

}  // namespace mesh::observe
