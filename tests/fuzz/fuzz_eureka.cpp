// SPDX-License-Identifier: Apache-2.0
// Answers of Eureka: an answer of everything, and after a zero byte deltas on top of it. Whatever they say, services
// must be in order, and reading everything again must lead to the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "discovery/eureka_watch.hpp"

namespace {

using namespace mesh;
using discovery::EurekaWatch;

void check(const std::vector<model::ServicePtr>& services) {
  for (const model::ServicePtr& pointer : services) {
    const model::Service& service = *pointer;
    MESH_ASSERT(discovery::is_service_name(service.name));
    MESH_ASSERT(service.frontend.address.port != 0);
    MESH_ASSERT(std::ranges::adjacent_find(service.endpoints, std::ranges::greater_equal{},
                                           &model::Endpoint::address) == service.endpoints.end());
    for (const model::Endpoint& endpoint : service.endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && !endpoint.address.ip.is_unspecified());
      MESH_ASSERT(endpoint.address.ip.is_v4() == service.frontend.address.ip.is_v4());
      MESH_ASSERT(endpoint.address != service.frontend.address);
    }
  }
}

/// All services if the answer is of use.
void answer(EurekaWatch& watch, std::string_view body, base::TimePoint now) {
  http::FetchResponse response;
  response.status = 200;
  response.body = body;
  const auto taken = watch.answered(response, now);
  if (!taken) MESH_ASSERT(!taken.error().message.empty());
  if (taken && *taken == EurekaWatch::Taken::kCurrent) MESH_ASSERT(watch.due() > now);
  if (const auto services = watch.take_update()) check(*services);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string_view all = text.substr(0, text.find('\0'));
  const discovery::EurekaSettings settings{
      .services = {{.match = "orders", .address = "10.0.0.1", .secure = true}, {.match = "p*y"}, {.match = "all"}}};
  EurekaWatch watch(settings, discovery::ServicePolicy{}, 1);
  const base::TimePoint now{};
  watch.restart(now);
  while (true) {
    const auto end = std::min(text.find('\0'), text.size());
    answer(watch, text.substr(0, end), now);
    if (end == text.size()) break;
    text.remove_prefix(end + 1);
  }
  watch.restart(now);
  answer(watch, all, now);
  watch.restart(now);
  answer(watch, all, now);
  MESH_ASSERT(!watch.take_update());
  return 0;
}
