// SPDX-License-Identifier: Apache-2.0
// What an API server sends. The first byte says which: bit 0 a watch stream (else a list), bits 1 and 2 the size of the
// pieces it comes in, bit 3 services (else slices). What was understood is imported together with a good object of the
// other kind; the outcome must be in order, whatever it was.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "discovery/kubernetes_access.hpp"
#include "discovery/kubernetes_model.hpp"

namespace {

using namespace mesh;
using namespace mesh::discovery::kubernetes;

constexpr std::string_view kService = R"({"metadata":{"name":"a","namespace":"n"},"spec":{"clusterIPs":["10.0.0.1",
  "fd00::1"],"ports":[{"name":"p","port":80},{"name":"","port":81,"protocol":"UDP"}]}})";
constexpr std::string_view kSlice = R"({"metadata":{"name":"s","namespace":"n","labels":{"kubernetes.io/service-name":
  "a"}},"addressType":"IPv4","ports":[{"name":"p","port":8080}],"endpoints":[{"addresses":["10.1.0.1"]}]})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool services = (data[0] & 8) != 0;
  Cluster cluster({.here = {.zone = "a", .node = "n1"}, .headless = true, .external_addresses = true});
  cluster.put(std::move(read_object(services ? kSlice : kService)->slice));
  cluster.put(std::move(read_object(services ? kSlice : kService)->service));
  const auto put = [&](Object&& object) {
    services ? cluster.put(std::move(object.service)) : cluster.put(std::move(object.slice));
  };
  if ((data[0] & 1) == 0) {
    const auto list = read_list(text, put);
    MESH_ASSERT(list || !list.error().message.empty());
  } else {
    Framer framer;
    const std::size_t piece = std::size_t{1} << (data[0] & 6);
    for (std::size_t at = 0; at < text.size(); at += piece) {
      const auto fed = framer.feed(text.substr(at, piece), [&](std::string_view frame) -> base::Result<void> {
        auto event = read_event(frame);
        if (event && event->type == EventType::kAdded) put(std::move(event->object));
        return {};
      });
      if (!fed) break;
    }
  }
  (void)read_status(text);
  (void)read_kubeconfig(text, "/f", "");
  cluster.update();
  for (const model::ServicePtr& service : cluster.services()) {
    MESH_ASSERT(service->frontend.address.port != 0);
    MESH_ASSERT(std::ranges::adjacent_find(service->endpoints, [](const auto& a, const auto& b) {
                  return b.address <= a.address;
                }) == service->endpoints.end());
    for (const model::Endpoint& endpoint : service->endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && endpoint.address != service->frontend.address);
      MESH_ASSERT(endpoint.address.ip.is_v4() == service->frontend.address.ip.is_v4());
    }
  }
  return 0;
}
