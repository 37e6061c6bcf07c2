// SPDX-License-Identifier: Apache-2.0
// Answers of Consul. The first byte says which: the instances of a service (bit 2: with a tagged address), the list of
// services, or checks. What is accepted must map to services that are in order, whatever the metadata says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "discovery/consul_model.hpp"

namespace {

using namespace mesh;

void check_mapped(const discovery::ConsulRule& rule, const std::vector<discovery::ConsulInstance>& instances) {
  discovery::ConsulMapper mapper{discovery::ServicePolicy{}};
  discovery::InstancesKept kept;
  const auto mapped = mapper.map("orders", rule, instances, kept);
  for (const model::Service& service : mapped.services) {
    MESH_ASSERT(service.frontend.address.port != 0);
    MESH_ASSERT(std::ranges::is_sorted(service.endpoints, std::ranges::less_equal{}, &model::Endpoint::address) ||
                std::ranges::adjacent_find(service.endpoints, std::ranges::greater_equal{},
                                           &model::Endpoint::address) == service.endpoints.end());
    for (const model::Endpoint& endpoint : service.endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && !endpoint.address.ip.is_unspecified());
      MESH_ASSERT(endpoint.address.ip.is_v4() == service.frontend.address.ip.is_v4());
      MESH_ASSERT(endpoint.address != service.frontend.address);
    }
  }
  const auto again = mapper.map("orders", rule, instances, kept);
  MESH_ASSERT(
      std::ranges::equal(mapped.services, again.services, [](const auto& a, const auto& b) { return a.same_as(b); }));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] & 3) {
    case 0:
    case 3: {
      const auto instances = discovery::parse_consul_health(text, (data[0] & 4) != 0 ? "wan" : "");
      if (!instances) {
        MESH_ASSERT(!instances.error().message.empty());
        return 0;
      }
      check_mapped({.match = "orders"}, *instances);
      check_mapped({.match = "orders", .tags = {"v1"}, .address = "240.64.0.1", .port = 80}, *instances);
      return 0;
    }
    case 1: {
      const auto names = discovery::parse_consul_catalog(text);
      if (!names) return 0;
      const discovery::ConsulRule rules[] = {{.match = "a*b?", .tags = {"v1"}}, {.match = "*c"}};
      for (const auto& name : *names) discovery::find_consul_rule(rules, name);
      return 0;
    }
    default:
      discovery::parse_consul_failing(text);
      return 0;
  }
}
