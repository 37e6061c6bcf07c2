// SPDX-License-Identifier: Apache-2.0
// Answers that their receiver did not take over, and said so (xDS: NACK): the last ones, for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.hpp"

namespace mesh::model {

struct Refusal {
  std::string client{};  ///< Of the agent's own server; empty: the agent itself refused.
  std::string what;      ///< "endpoints"
  std::string version;   ///< Of the answer.
  std::string why;       ///< Names the resources.
  base::WallTime at{};   ///< The last time.
  std::uint64_t times = 1;
};

class Refusals {
 public:
  static constexpr std::size_t kMost = 8;
  static constexpr std::size_t kMaxText = 500;  ///< Bytes of each text; what is beyond is cut off.

  /// The same as one that is known is that one again.
  void note(Refusal refusal, base::WallTime now);

  [[nodiscard]] const std::vector<Refusal>& newest_first() const { return refusals_; }
  [[nodiscard]] std::uint64_t total() const { return total_; }  ///< Ever.

 private:
  std::vector<Refusal> refusals_;
  std::uint64_t total_ = 0;
};

}  // namespace mesh::model
