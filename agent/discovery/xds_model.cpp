// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_model.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <utility>

#include "discovery/consul_model.hpp"

namespace mesh::discovery {
namespace {

using xds::Health;

constexpr double kFinest = 10'000;  // steps of the greatest weight, where shares are no whole numbers
constexpr std::uint64_t kMaxSum = std::numeric_limits<std::uint32_t>::max();

bool gets_traffic(Health health) {
  return health == Health::kUnknown || health == Health::kHealthy || health == Health::kDegraded;
}

base::Result<void> check(const xds::LbEndpoint& endpoint) {
  const auto refuse = [](std::string why) { return base::fail(base::ErrorKind::kInvalid, std::move(why)); };
  if (endpoint.address.empty()) return refuse("an endpoint has no socket address");
  const auto ip = base::IpAddress::parse(endpoint.address);
  if (!ip || ip->is_unspecified()) return refuse("'" + endpoint.address + "' is not the IP address of an endpoint");
  if (endpoint.port == 0 || endpoint.port > 65535) {
    return refuse("endpoint " + endpoint.address + " has the port " + std::to_string(endpoint.port));
  }
  if (endpoint.weight == 0) return refuse("endpoint " + endpoint.address + " has load_balancing_weight 0");
  return {};
}

/// Where a priority's localities stand, and what they weigh together.
struct Level {
  std::vector<const xds::Locality*> localities;
  std::uint64_t weight = 0;
  bool weighted = false;
  bool degraded = false;  ///< Some endpoint is.
};

base::Result<std::map<std::uint32_t, Level>> levels_of(const xds::Assignment& assignment) {
  const auto refuse = [](std::string why) { return base::fail(base::ErrorKind::kInvalid, std::move(why)); };
  std::map<std::uint32_t, Level> levels;
  for (const xds::Locality& locality : assignment.localities) {
    if (locality.priority > kMaxXdsPriority) {
      return refuse("priority " + std::to_string(locality.priority) + " is above " + std::to_string(kMaxXdsPriority));
    }
    Level& level = levels[locality.priority];
    level.localities.push_back(&locality);
    level.weight += locality.weight.value_or(0);
    level.weighted = level.weighted || locality.weight.value_or(0) > 0;
    if (level.weight > kMaxSum) {
      return refuse("the weights of the localities of priority " + std::to_string(locality.priority) + " add up to " +
                    std::to_string(level.weight) + ", above " + std::to_string(kMaxSum));
    }
    std::uint64_t sum = 0;
    for (const xds::LbEndpoint& endpoint : locality.endpoints) {
      MESH_CHECK(check(endpoint));
      sum += endpoint.weight.value_or(1);
      level.degraded = level.degraded || endpoint.health == Health::kDegraded;
    }
    if (sum > kMaxSum) return refuse("the weights of the endpoints of a locality add up to " + std::to_string(sum));
  }
  std::uint32_t expected = 0;
  for (const auto& [priority, level] : levels) {
    if (priority != expected++) {
      return refuse("there is a priority " + std::to_string(priority) + ", but no " + std::to_string(expected - 1));
    }
  }
  return levels;
}

/// Whole numbers up to 65535 in the proportions of `shares`; what is above 0 stays above it.
std::vector<std::uint16_t> whole(std::span<const double> shares) {
  const double greatest = shares.empty() ? 0 : std::ranges::max(shares);
  const bool fits = greatest <= 65535 && std::ranges::all_of(shares, [](double one) { return one == std::floor(one); });
  std::vector<std::uint16_t> weights;
  weights.reserve(shares.size());
  std::uint16_t divisor = 0;
  for (const double share : shares) {
    const double scaled = fits ? share : std::max(std::round(share / greatest * kFinest), share > 0 ? 1.0 : 0.0);
    weights.push_back(static_cast<std::uint16_t>(scaled));
    divisor = std::gcd(divisor, weights.back());
  }
  if (!fits && divisor > 1) {
    for (auto& weight : weights) weight = static_cast<std::uint16_t>(weight / divisor);
  }
  return weights;
}

}  // namespace

XdsName xds_name(std::string_view cluster) {
  XdsName named;
  std::string_view parts[4];
  std::string_view rest = cluster;
  for (std::size_t i = 0; i < 4; ++i) {
    parts[i] = rest.substr(0, i < 3 ? rest.find('|') : rest.size());
    rest.remove_prefix(std::min(parts[i].size() + 1, rest.size()));
  }
  if (std::ranges::count(cluster, '|') != 3) {
    named.name = name_in_mesh(cluster);
    return named;
  }
  const auto& [direction, port, subset, host] = parts;
  const char* const end = port.data() + port.size();
  const auto [stopped, problem] = std::from_chars(port.data(), end, named.port);
  if (problem != std::errc{} || stopped != end) named.port = 0;
  named.name = name_in_mesh(subset.empty() ? std::string(host) : std::string(host) + "/" + std::string(subset));
  return named;
}

const XdsRule* find_xds_rule(const std::vector<XdsRule>& rules, std::string_view cluster) {
  const auto found =
      std::ranges::find_if(rules, [&](const XdsRule& rule) { return rule_matches(rule.match, cluster); });
  return found == rules.end() ? nullptr : &*found;
}

base::Result<std::vector<Instance>> xds_instances(const xds::Assignment& assignment) {
  std::vector<Instance> instances;
  unsigned tier = 0;
  const auto levels = MESH_TRY(levels_of(assignment));
  for (const auto& [priority, level] : levels) {
    std::vector<double> shares;
    const std::size_t first = instances.size();
    for (const xds::Locality* locality : level.localities) {
      double sum = 0;
      for (const xds::LbEndpoint& endpoint : locality->endpoints) sum += endpoint.weight.value_or(1);
      for (const xds::LbEndpoint& endpoint : locality->endpoints) {
        const double own = endpoint.weight.value_or(1);
        shares.push_back(level.weighted ? own * locality->weight.value_or(0) / sum : own);
        Instance& instance = instances.emplace_back();
        instance.label = "endpoint " + endpoint.address + ":" + std::to_string(endpoint.port);
        instance.address = endpoint.address;
        instance.port = endpoint.port;
        instance.weight = gets_traffic(endpoint.health) ? 1 : 0;
        instance.draining = endpoint.health == Health::kDraining;
        instance.zone = locality->zone.empty() ? locality->region : locality->zone;
        instance.tier = static_cast<std::uint8_t>(tier + (endpoint.health == Health::kDegraded ? 1 : 0));
        instance.rank = tier * 2 + (gets_traffic(endpoint.health) ? 0U : 1U);
      }
    }
    const std::vector<std::uint16_t> weights = whole(shares);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      Instance& instance = instances[first + i];
      if (instance.weight != 0 || instance.draining) instance.weight = weights[i];
    }
    tier += level.degraded ? 2 : 1;
  }
  return instances;
}

}  // namespace mesh::discovery
