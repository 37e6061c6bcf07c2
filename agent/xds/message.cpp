// SPDX-License-Identifier: Apache-2.0
#include "xds/message.hpp"

#include <array>

namespace mesh::xds {
namespace {

struct Names {
  std::string_view url;
  std::string_view text;
};
constexpr std::array<Names, kTypes> kNames = {{
    {"type.googleapis.com/envoy.config.listener.v3.Listener", "listeners"},
    {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "routes"},
    {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "clusters"},
    {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "endpoints"},
}};

}  // namespace

std::string_view type_url(Type type) { return kNames[static_cast<std::size_t>(type)].url; }
std::string_view to_string(Type type) { return kNames[static_cast<std::size_t>(type)].text; }

std::optional<Type> type_from(std::string_view url) {
  for (std::size_t i = 0; i < kTypes; ++i) {
    if (kNames[i].url == url) return static_cast<Type>(i);
  }
  return std::nullopt;
}

}  // namespace mesh::xds
