// SPDX-License-Identifier: Apache-2.0
// How long to leave somebody alone who failed: exponential, with full jitter, so that a thousand agents don't knock
// together when a registry comes back. Pure: time and chance are passed in.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/clock.hpp"
#include "base/random.hpp"

namespace mesh::base {

class Backoff {
 public:
  struct Options {
    std::chrono::milliseconds base{500};      ///< The first wait is at most this; each next at most twice the last.
    std::chrono::milliseconds cap{30'000};    ///< No wait is longer.
    std::chrono::milliseconds floor{50};      ///< None is shorter: full jitter begins at zero.
    std::chrono::seconds healthy_after{120};  ///< What held so long begins anew; what failed sooner goes on.
  };

  Backoff() : Backoff(Options{}) {}
  explicit Backoff(Options options) : options_(options), ceiling_(options.base) {}

  /// It works, since now.
  void note_success(TimePoint now) {
    if (!healthy_since_) healthy_since_ = now;
  }

  /// It failed now: how long to wait before the next try.
  [[nodiscard]] std::chrono::milliseconds next(TimePoint now, Random& random) {
    if (healthy_since_ && now - *healthy_since_ >= options_.healthy_after) ceiling_ = options_.base;
    healthy_since_.reset();
    const auto drawn = std::chrono::milliseconds(
        static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(ceiling_.count()) + 1)));
    ceiling_ = std::min(ceiling_ * 2, options_.cap);
    return std::clamp(drawn, options_.floor, options_.cap);
  }

 private:
  Options options_;
  std::chrono::milliseconds ceiling_;
  std::optional<TimePoint> healthy_since_;
};

}  // namespace mesh::base
