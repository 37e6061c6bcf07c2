// SPDX-License-Identifier: Apache-2.0
// Watched files. The first byte says which: bit 0 YAML, bit 1 endpoints of one service, bit 2 an IPv6 one, bit 3 two
// versions of one file, parted by a zero byte. What is accepted must be in order and must survive the state on disk; a
// file that is parsed with what was known of another one must come out as if nothing had been known.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "app/state_store.hpp"
#include "base/error.hpp"
#include "discovery/service_file.hpp"

namespace {

using namespace mesh;

/// The shortcut for changed elements of a JSON file against the whole parser.
discovery::ParsedFile parse_knowing(const std::string& path, std::string_view before, std::string_view text) {
  const discovery::ParsedFile old = discovery::parse_services(path, before, {});
  MESH_ASSERT(old.good() || old.known.empty());
  discovery::ParsedFile parsed = discovery::parse_services(path, text, {}, old.known);
  const discovery::ParsedFile whole = discovery::parse_services(path, text, {});
  MESH_ASSERT(parsed.good() == whole.good());
  MESH_ASSERT(parsed.findings.error_count() == whole.findings.error_count());
  if (!whole.good()) return parsed;
  MESH_ASSERT(
      std::ranges::equal(parsed.services, whole.services, [](const auto& a, const auto& b) { return a->same_as(*b); }));
  MESH_ASSERT(std::ranges::equal(parsed.known, whole.known, {}, &discovery::KnownElement::hash,
                                 &discovery::KnownElement::hash));
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string path = (data[0] & 1) != 0 ? "/f.yaml" : "/f.json";
  discovery::ParsedFile parsed;
  if (const std::size_t parting = text.find('\0'); (data[0] & 8) != 0 && parting != std::string_view::npos) {
    parsed = parse_knowing(path, text.substr(0, parting), text.substr(parting + 1));
  } else if ((data[0] & 2) != 0) {
    model::Service settings;
    settings.name = "s";
    settings.frontend.address = *base::SocketAddress::parse((data[0] & 4) != 0 ? "[fd00::1]:80" : "240.64.0.1:80");
    parsed = discovery::parse_endpoints(path, text, {std::make_shared<const model::Service>(settings)});
  } else {
    parsed = discovery::parse_services(path, text, {});
  }
  for (const auto& error : parsed.findings.errors) MESH_ASSERT(!error.to_string().empty());
  if (!parsed.good()) return 0;

  auto update = std::make_shared<model::Update>();
  update->services = parsed.services;
  auto snapshot = std::make_shared<model::Snapshot>();
  snapshot->updates = {std::move(update)};
  for (std::size_t i = 0; i < parsed.services.size(); ++i) {
    const model::Service& service = *parsed.services[i];
    MESH_ASSERT(i == 0 || parsed.services[i - 1]->frontend < service.frontend);
    MESH_ASSERT(service.frontend.address.port != 0);
    MESH_ASSERT(std::adjacent_find(service.endpoints.begin(), service.endpoints.end(),
                                   [](const auto& a, const auto& b) { return b.address <= a.address; }) ==
                service.endpoints.end());
    for (const model::Endpoint& endpoint : service.endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && endpoint.address.ip.is_v4() == service.frontend.address.ip.is_v4());
    }
  }
  app::AgentSettings agent;
  agent.cgroups = {"/"};
  const auto state = app::decode_state(app::encode_state({agent, {}, std::move(snapshot)}, base::WallTime{}));
  MESH_ASSERT(state.has_value() && state->services.size() == parsed.services.size());
  for (std::size_t i = 0; i < parsed.services.size(); ++i)
    MESH_ASSERT(state->services[i]->same_as(*parsed.services[i]));
  return 0;
}
