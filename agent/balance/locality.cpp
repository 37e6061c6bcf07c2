// SPDX-License-Identifier: Apache-2.0
#include "balance/locality.hpp"

#include <utility>

namespace mesh::balance {

unsigned distance(const model::Service& service, const model::Endpoint& endpoint, const model::Place& here) {
  const bool same_zone = !here.zone.empty() && endpoint.zone == here.zone;
  const bool same_node = !here.node.empty() && endpoint.node == here.node;
  switch (service.prefer) {
    case model::Preference::kNone:
      return 0;
    case model::Preference::kZone:
      return here.zone.empty() || same_zone ? 0 : 1;
    case model::Preference::kNode:
      if (here.node.empty() && here.zone.empty()) return 0;
      if (same_node) return 0;
      return same_zone ? 1 : 2;
  }
  return 0;
}

std::vector<double> spill_over(std::span<const Tier> tiers, unsigned threshold_percent) {
  std::vector<double> shares;
  shares.reserve(tiers.size());
  double left = 1;
  for (const Tier& tier : tiers) {
    const std::uint64_t enough = tier.could_serve * threshold_percent;  // in integers: all or nothing must be exact
    if (tier.usable == 0) {
      shares.push_back(0);
    } else if (tier.usable * 100 >= enough) {
      shares.push_back(std::exchange(left, 0));
    } else {
      shares.push_back(left * static_cast<double>(tier.usable * 100) / static_cast<double>(enough));
      left -= shares.back();
    }
  }
  if (left < 1 && left > 0) {
    for (double& share : shares) share /= 1 - left;
  }
  return shares;
}

}  // namespace mesh::balance
