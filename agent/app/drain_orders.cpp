// SPDX-License-Identifier: Apache-2.0
#include "app/drain_orders.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "app/target.hpp"
#include "base/duration.hpp"

namespace mesh::app {
namespace {

using base::ErrorKind;

constexpr std::string_view kNever = "never";
constexpr std::chrono::hours kTimeoutMax{24};

/// The file, as it is on disk.
struct SavedOrder {
  std::string address;  ///< Of the service.
  std::string protocol;
  std::string endpoint;
  std::string timeout;  ///< As in api::DrainRequest.
  std::int64_t since_unix_ms = 0;
  static void fields(auto& self, auto& visit) {
    visit("address", self.address);
    visit("protocol", self.protocol);
    visit("endpoint", self.endpoint);
    visit("timeout", self.timeout);
    visit("since_unix_ms", self.since_unix_ms);
  }
};
struct SavedOrders {
  static constexpr std::string_view kKind = "DrainOrders";
  std::vector<SavedOrder> items;
  static void fields(auto& self, auto& visit) { visit("items", self.items); }
};

using Timeout = std::optional<std::optional<std::chrono::seconds>>;

base::Result<Timeout> read_timeout(const std::string& text) {
  if (text.empty()) return Timeout{};
  if (text == kNever) return Timeout{std::optional<std::chrono::seconds>()};
  const base::Duration duration = MESH_TRY(base::parse_duration(text));
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(duration);
  if (seconds > kTimeoutMax) {
    return base::fail(ErrorKind::kInvalid, "drain with a timeout of " + text + ": too long", "use up to 1d, or never");
  }
  return Timeout{seconds};
}

std::string write_timeout(const Timeout& timeout) {
  if (!timeout) return {};
  return *timeout ? base::format_duration(**timeout) : std::string(kNever);
}

/// "10.0.0.11:8080", or an address that fits every port.
struct EndpointPattern {
  base::IpAddress ip;
  std::optional<std::uint16_t> port;

  static base::Result<EndpointPattern> parse(const std::string& text) {
    if (const auto whole = base::SocketAddress::parse(text)) return EndpointPattern{whole->ip, whole->port};
    const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
    if (const auto ip = base::IpAddress::parse(bracketed ? text.substr(1, text.size() - 2) : text)) {
      return EndpointPattern{*ip, std::nullopt};
    }
    return base::fail(ErrorKind::kInvalid, "read endpoint '" + text + "': it is no address",
                      "write it as 10.0.0.11:8080, [fd00::11]:8080 or 10.0.0.11");
  }
  [[nodiscard]] bool fits(const base::SocketAddress& address) const {
    return address.ip == ip && (!port || address.port == *port);
  }
};

}  // namespace

base::Result<DrainCommand> read_drain(const api::DrainRequest& request, const model::Snapshot& snapshot,
                                      const health::DrainOrders& orders, base::WallTime now) {
  const Target target = MESH_TRY(Target::parse(request.service));
  const EndpointPattern pattern = MESH_TRY(EndpointPattern::parse(request.endpoint));
  DrainCommand command{.order = {.since = now}, .undo = request.undo};
  command.order.timeout = MESH_TRY(read_timeout(request.timeout));
  const auto services = find_services(snapshot, target);
  if (!services && !request.undo) return std::unexpected(services.error());
  for (const auto& service : services.value_or(std::vector<model::ServicePtr>{})) {
    for (const model::Endpoint& endpoint : service->endpoints) {
      if (pattern.fits(endpoint.address)) command.endpoints.emplace_back(service->frontend, endpoint.address);
    }
  }
  if (request.undo) {
    const auto is_meant = [&](const model::Frontend& frontend) {
      if (target.address) return frontend.address == *target.address;
      return services && std::ranges::any_of(*services, [&](const auto& one) { return one->frontend == frontend; });
    };
    command.endpoints.clear();
    for (const auto& [key, order] : orders) {
      if (is_meant(key.first) && pattern.fits(key.second)) command.endpoints.push_back(key);
    }
  }
  if (command.endpoints.empty()) {
    return base::fail(ErrorKind::kNotFound,
                      request.undo
                          ? "undo the drain of " + request.endpoint + " of " + request.service + ": there is none"
                          : "drain " + request.endpoint + ": " + request.service + " has no such endpoint",
                      request.undo ? "`meshctl drain --list` shows them" : "`meshctl endpoints` shows them");
  }
  return command;
}

base::Result<health::DrainOrders> with_drain(health::DrainOrders orders, const DrainCommand& command) {
  for (const health::EndpointKey& key : command.endpoints) {
    if (command.undo) {
      orders.erase(key);
      continue;
    }
    const auto [entry, is_new] = orders.try_emplace(key, command.order);
    if (!is_new) entry->second.timeout = command.order.timeout;  // asked again: it goes on since it began
  }
  if (orders.size() > kDrainOrdersMax) {
    return base::fail(ErrorKind::kExhausted, "drain: more than " + std::to_string(kDrainOrdersMax) + " endpoints",
                      "take endpoints that don't come back out of their services, and undo their drains");
  }
  return orders;
}

std::string encode_orders(const health::DrainOrders& orders) {
  SavedOrders saved;
  for (const auto& [key, order] : orders) {
    const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(order.since.time_since_epoch());
    saved.items.push_back({key.first.address.to_string(), std::string(model::to_string(key.first.protocol)),
                           key.second.to_string(), write_timeout(order.timeout), since.count()});
  }
  return api::encode(saved) + '\n';
}

base::Result<health::DrainOrders> decode_orders(std::string_view text) {
  const auto saved = MESH_TRY(api::decode<SavedOrders>(text));
  health::DrainOrders orders;
  for (const SavedOrder& item : saved.items) {
    const auto protocol = model::protocol_from(item.protocol);
    if (!protocol) {
      return base::fail(ErrorKind::kInvalid, "read a drain order: '" + item.protocol + "' is no protocol");
    }
    const auto address = MESH_TRY(base::SocketAddress::parse(item.address));
    const auto endpoint = MESH_TRY(base::SocketAddress::parse(item.endpoint));
    auto& order = orders[{{address, *protocol}, endpoint}];
    order.timeout = MESH_TRY(read_timeout(item.timeout));
    order.since = base::WallTime(std::chrono::milliseconds(item.since_unix_ms));
  }
  return orders;
}

}  // namespace mesh::app
