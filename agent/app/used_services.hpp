// SPDX-License-Identifier: Apache-2.0
// Which services this node uses: those whose counters moved within the last kUsedFor. Decides what `when: used` probes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "base/clock.hpp"
#include "model/health_view.hpp"

namespace mesh::app {

inline constexpr auto kUsedFor = std::chrono::seconds(300);

class UsedServices {
 public:
  using Set = std::unordered_set<model::Frontend, model::FrontendHash>;
  using SetPtr = std::shared_ptr<const Set>;

  /// `visit` calls its argument once per service with its count of connects, datagrams and refusals, which only grows.
  /// A refused connect is a use too. Returns the set if it changed since the last call, else null.
  SetPtr look(base::TimePoint now,
              const std::function<void(const std::function<void(const model::Frontend&, std::uint64_t)>&)>& visit);

 private:
  struct Seen {
    std::uint64_t count = 0;
    base::TimePoint used_at = base::TimePoint::min();
    std::uint64_t round = 0;
  };
  std::unordered_map<model::Frontend, Seen, model::FrontendHash> seen_;
  Set used_;
  std::uint64_t round_ = 0;
};

}  // namespace mesh::app
