// SPDX-License-Identifier: Apache-2.0
// What a ZooKeeper sends, and what nodes hold. The first byte says which: the welcome, frames of a session with reads
// in flight, or a node's data (its layout in the next byte). What is accepted must map to services that are in order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "discovery/zookeeper_model.hpp"
#include "discovery/zookeeper_watch.hpp"
#include "discovery/zookeeper_wire.hpp"

namespace {

using namespace mesh;

void check_node(std::uint8_t layout, std::string_view text) {
  discovery::ZookeeperRule rule;
  rule.match = "orders";
  rule.path = "/s";
  rule.layout = static_cast<discovery::ZookeeperLayout>(layout & 3);
  if ((layout & 4) != 0) rule.endpoint = "admin";
  const bool name = rule.layout == discovery::ZookeeperLayout::kDubbo;
  const auto parsed = discovery::parse_zookeeper_node(rule, name ? text : "node", name ? "" : text, 1);
  if (!parsed) {
    MESH_ASSERT(!parsed.error().message.empty());
    return;
  }
  if (!*parsed) return;
  discovery::ZookeeperMapper mapper{discovery::ServicePolicy{}};
  discovery::InstancesKept kept;
  const auto mapped = mapper.map("orders", rule, {&**parsed, 1}, kept);
  for (const model::Service& service : mapped.services) {
    MESH_ASSERT(service.frontend.address.port != 0);
    for (const model::Endpoint& endpoint : service.endpoints) {
      MESH_ASSERT(endpoint.address.port != 0 && !endpoint.address.ip.is_unspecified());
      MESH_ASSERT(endpoint.address.ip.is_v4() == service.frontend.address.ip.is_v4());
    }
  }
}

/// Each frame is an event, or the answer to the oldest read.
void check_session(std::string_view text) {
  discovery::ZookeeperSettings settings;
  discovery::ZookeeperRule rule;
  rule.match = std::string(discovery::kMatchAll);
  rule.path = "/s";
  rule.layout = discovery::ZookeeperLayout::kNerve;
  settings.services = {rule};
  discovery::ZookeeperWatch watch(settings, discovery::ServicePolicy{});
  watch.restart();
  while (text.size() >= discovery::kZookeeperLengthBytes) {
    const auto length = discovery::zookeeper_length(text, 1 << 16);
    text.remove_prefix(discovery::kZookeeperLengthBytes);
    if (!length || *length > text.size()) return;
    const auto header = discovery::parse_zookeeper_header(text.substr(0, *length));
    text.remove_prefix(*length);
    if (!header) return;
    if (header->xid == discovery::kZookeeperEventXid) {
      const auto news = discovery::parse_zookeeper_news(header->body);
      if (!news) return;
      watch.happened(*news);
    } else {
      const auto asks = watch.take_asks(1);
      if (asks.empty()) return;
      const auto answer = discovery::parse_zookeeper_answer(asks[0].what, *header);
      if (!answer || !watch.answered(asks[0], *answer)) return;
    }
    watch.take_update();
    MESH_ASSERT(watch.take_reports().size() <= 16);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  switch (data[0] % 3) {
    case 0:
      (void)discovery::parse_zookeeper_welcome(text);
      return 0;
    case 1:
      check_session(text);
      return 0;
    default:
      check_node(data[1], text);
      return 0;
  }
}
