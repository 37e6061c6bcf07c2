// SPDX-License-Identifier: Apache-2.0
// Answers of an xDS control plane: each is a length in two bytes and a DiscoveryResponse. Whatever they say, services
// must be in order, each answer about clusters or endpoints must be accepted or refused, and nothing be said unasked.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "discovery/xds_watch.hpp"
#include "xds/library.hpp"

namespace {

using namespace mesh;

void check(const std::vector<model::ServicePtr>& services) {
  for (const model::ServicePtr& one : services) {
    const model::Service& service = *one;
    MESH_ASSERT(discovery::is_service_name(service.name));
    MESH_ASSERT(service.frontend.address.port != 0);
    MESH_ASSERT(std::ranges::adjacent_find(service.endpoints, std::ranges::greater_equal{},
                                           &model::Endpoint::address) == service.endpoints.end());
    for (const model::Endpoint& endpoint : service.endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && !endpoint.address.ip.is_unspecified());
      MESH_ASSERT(endpoint.address.ip.is_v4() == service.frontend.address.ip.is_v4());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto library = xds::library();
  MESH_ASSERT(library.has_value());
  discovery::XdsWatch watch(
      {.services = {{.match = "orders", .address = "10.0.0.1"}, {.match = "p*y"}, {.match = "all"}}},
      discovery::ServicePolicy{}, {.id = "fuzz"});
  base::TimePoint now{};
  watch.restart(now);
  MESH_ASSERT(watch.take_requests(now).size() == 1);
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (rest.size() >= 2) {
    const std::size_t length = static_cast<std::uint8_t>(rest[0]) * 256U + static_cast<std::uint8_t>(rest[1]);
    const std::string_view bytes = rest.substr(2, length);
    rest.remove_prefix(2 + bytes.size());
    auto answer = (*library)->decode(bytes);
    if (!answer) continue;
    const auto type = answer->type;
    const std::string nonce = answer->nonce;
    watch.answered(std::move(*answer), now);
    now += std::chrono::minutes(1);  // no refusal waits so long
    (void)watch.look(now);
    const auto requests = watch.take_requests(now);
    if (type == xds::Type::kCluster || type == xds::Type::kEndpoints) {
      MESH_ASSERT(std::ranges::any_of(requests, [&](const auto& request) {
        return request.type == *type && request.nonce == nonce && (!request.error || !request.error->empty());
      }));
    } else {
      MESH_ASSERT(requests.empty());
    }
    if (const auto services = watch.take_update()) check(*services);
  }
  return 0;
}
