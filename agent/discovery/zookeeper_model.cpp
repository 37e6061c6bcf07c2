// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_model.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace mesh::discovery {
namespace {

using Json = nlohmann::json;
using Parsed = base::Result<std::optional<ZookeeperInstance>>;

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxLabels = 64;        // per instance
constexpr std::size_t kMaxLabelBytes = 1024;  // of key and value; longer ones are not for us
constexpr std::uint16_t kDubboWeight = 100;   // of a provider that says none

std::unexpected<base::Error> wrong(std::string_view what) {
  return base::fail(base::ErrorKind::kInvalid, std::string(what), "check the layout of its path");
}

base::Result<Json> parse_object(std::string_view data) {
  bool too_deep = false;
  Json json = Json::parse(
      data,
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return depth <= kMaxDepth;
      },
      false);
  if (too_deep) return wrong("nested deeper than " + std::to_string(kMaxDepth) + " levels");
  if (!json.is_object()) return wrong("not a JSON object");
  return json;
}

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_at(const Json& object, const char* key) {
  const Json* const found = member(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

template <typename Number>
std::optional<Number> number_from(std::string_view text) {
  Number number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// 0: none, or null; -1: no port.
std::int64_t port_at(const Json& object, const char* key) {
  const Json* const found = member(object, key);
  if (found == nullptr) return 0;
  if (!found->is_number_integer()) return -1;
  const auto port =
      found->is_number_unsigned() && found->get<std::uint64_t>() > 65535 ? -1 : found->get<std::int64_t>();
  return port >= 0 && port <= 65535 ? port : -1;
}

void add_label(ZookeeperInstance& instance, std::string_view key, std::string_view value) {
  if (instance.labels.size() < kMaxLabels && key.size() + value.size() <= kMaxLabelBytes) {
    instance.labels.emplace(key, value);
  }
}

void add_labels(ZookeeperInstance& instance, const Json& object) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) add_label(instance, key, value.get_ref<const std::string&>());
    if (value.is_number_integer() || value.is_boolean()) add_label(instance, key, value.dump());
  }
}

std::string_view label(const ZookeeperInstance& instance, std::string_view key) {
  const auto found = instance.labels.find(key);
  return found == instance.labels.end() ? std::string_view{} : std::string_view(found->second);
}

std::uint16_t clamp_weight(std::int64_t weight) {
  return static_cast<std::uint16_t>(std::clamp<std::int64_t>(weight, 0, 65535));
}

Parsed parse_curator(const Json& json, ZookeeperInstance instance) {
  if (std::string id = text_at(json, "id"); !id.empty()) instance.id = std::move(id);
  instance.address = text_at(json, "address");
  instance.port = port_at(json, "port");
  if (instance.port == 0) instance.port = port_at(json, "sslPort");
  if (instance.port < 0 || instance.address.empty()) return wrong("not an instance of Curator with address and port");
  if (const Json* const payload = member(json, "payload")) {
    const Json* const metadata = member(*payload, "metadata");  // of Spring
    add_labels(instance, metadata != nullptr ? *metadata : *payload);
  }
  if (const auto status = label(instance, "instance_status"); !status.empty() && status != "UP") {
    instance.status = status == "OUT_OF_SERVICE" ? ZookeeperStatus::kLeaving : ZookeeperStatus::kDown;
  }
  const Json* const enabled = member(json, "enabled");
  if (enabled != nullptr && enabled->is_boolean() && !enabled->get<bool>() && instance.status == ZookeeperStatus::kUp) {
    instance.status = ZookeeperStatus::kLeaving;
  }
  return instance;
}

Parsed parse_server_set(const Json& json, const std::string& name, ZookeeperInstance instance) {
  const Json* place = member(json, "serviceEndpoint");
  if (!name.empty()) {
    const Json* const more = member(json, "additionalEndpoints");
    place = more != nullptr ? member(*more, name.c_str()) : nullptr;
    if (place == nullptr) return wrong("no additional endpoint '" + name + "'");
  }
  if (place == nullptr) return wrong("not a member of a server set");
  instance.address = text_at(*place, "host");
  instance.port = port_at(*place, "port");
  if (instance.port <= 0 || instance.address.empty()) return wrong("not a member of a server set with host and port");
  const std::string status = text_at(json, "status");
  if (status == "STOPPING" || status == "STOPPED") {
    instance.status = ZookeeperStatus::kLeaving;
  } else if (status != "ALIVE") {
    instance.status = ZookeeperStatus::kDown;
  }
  if (const Json* const metadata = member(json, "metadata")) add_labels(instance, *metadata);
  return instance;
}

Parsed parse_nerve(const Json& json, ZookeeperInstance instance) {
  if (std::string name = text_at(json, "name"); !name.empty()) instance.id = std::move(name);
  instance.address = text_at(json, "host");
  instance.port = port_at(json, "port");
  if (instance.port <= 0 || instance.address.empty()) return wrong("not an instance of nerve with host and port");
  if (const Json* const weight = member(json, "weight"); weight != nullptr && weight->is_number_integer()) {
    instance.weight = weight->is_number_unsigned() && weight->get<std::uint64_t>() > 65535
                          ? clamp_weight(65535)
                          : clamp_weight(weight->get<std::int64_t>());
  }
  const Json* const labels = member(json, "labels");
  add_labels(instance, labels != nullptr ? *labels : json);
  return instance;
}

/// protocol://[user@]host:port/interface?key=value&...
Parsed parse_dubbo(std::string_view node, ZookeeperInstance instance) {
  const auto decoded = decode_url_text(node);
  if (!decoded) return wrong("not an encoded URL");
  std::string_view url = *decoded;
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return wrong("not a URL of Dubbo");
  url.remove_prefix(scheme + 3);
  const std::size_t question = std::min(url.find('?'), url.size());
  std::string_view parameters = url.substr(std::min(question + 1, url.size()));
  std::string_view place = url.substr(0, std::min(url.find('/'), question));
  if (const auto at = place.rfind('@'); at != std::string_view::npos) place.remove_prefix(at + 1);
  const std::size_t colon = place.rfind(':');
  if (colon == std::string_view::npos) return wrong("a URL of Dubbo without a port");
  const auto port = number_from<std::uint16_t>(place.substr(colon + 1));
  if (!port || *port == 0) return wrong("a URL of Dubbo without a port");
  place = place.substr(0, colon);
  if (place.starts_with('[') && place.ends_with(']')) place = place.substr(1, place.size() - 2);
  instance.address = place;
  instance.port = *port;
  instance.id = instance.address + ':' + std::to_string(instance.port);
  while (!parameters.empty()) {
    const std::string_view one = parameters.substr(0, parameters.find('&'));
    parameters.remove_prefix(std::min(one.size() + 1, parameters.size()));
    const std::size_t equals = std::min(one.find('='), one.size());
    add_label(instance, one.substr(0, equals), one.substr(std::min(equals + 1, one.size())));
  }
  if (const auto category = label(instance, "category"); !category.empty() && category != "providers") {
    return std::nullopt;
  }
  instance.weight = kDubboWeight;
  if (const auto weight = number_from<std::int64_t>(label(instance, "weight"))) instance.weight = clamp_weight(*weight);
  if (label(instance, "disabled") == "true" || label(instance, "enabled") == "false") {
    instance.status = ZookeeperStatus::kLeaving;
  }
  instance.zxid = number_from<std::int64_t>(label(instance, "timestamp")).value_or(0);
  return instance;
}

bool has_labels(const ZookeeperInstance& instance, const std::vector<std::string>& wanted) {
  return std::ranges::all_of(wanted, [&](std::string_view one) {
    const std::size_t equals = std::min(one.find('='), one.size());
    const auto found = instance.labels.find(one.substr(0, equals));
    return found != instance.labels.end() && found->second == one.substr(std::min(equals + 1, one.size()));
  });
}

Instance to_instance(const ZookeeperInstance& from, const std::string& folder) {
  constexpr std::string_view kPrefix = "meshd-";
  Instance instance{.label = "instance " + from.id + " of node " + folder,
                    .address = from.address,
                    .port = from.port,
                    .weight = from.weight,
                    .draining = from.status == ZookeeperStatus::kLeaving,
                    .rank = static_cast<unsigned>(from.status),
                    .zone = std::string(label(from, "meshd-zone")),
                    .changed = static_cast<std::uint64_t>(std::max<std::int64_t>(0, from.zxid))};
  for (const auto& [key, value] : from.labels) {
    if (key.starts_with(kPrefix)) instance.meta.emplace_back(key, value);
  }
  if (from.status == ZookeeperStatus::kDown) {
    instance.weight = 0;
    instance.weight_is_fixed = true;
  }
  return instance;
}

}  // namespace

bool has_data(ZookeeperLayout layout) { return layout != ZookeeperLayout::kDubbo; }

std::optional<std::string> decode_url_text(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    std::uint8_t byte = 0;
    if (i + 2 >= text.size()) return std::nullopt;
    const auto [end, problem] = std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16);
    if (problem != std::errc{} || end != text.data() + i + 3) return std::nullopt;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

base::Result<std::optional<ZookeeperInstance>> parse_zookeeper_node(const ZookeeperRule& rule, std::string_view node,
                                                                    std::string_view data, std::int64_t zxid) {
  ZookeeperInstance instance{.id = std::string(node), .zxid = zxid};
  if (rule.layout == ZookeeperLayout::kDubbo) return parse_dubbo(node, std::move(instance));
  const Json json = MESH_TRY(parse_object(data));
  switch (rule.layout) {
    case ZookeeperLayout::kServerSet:
      return parse_server_set(json, rule.endpoint, std::move(instance));
    case ZookeeperLayout::kNerve:
      return parse_nerve(json, std::move(instance));
    case ZookeeperLayout::kCurator:
    case ZookeeperLayout::kDubbo:
      break;
  }
  return parse_curator(json, std::move(instance));
}

InstancesMapped ZookeeperMapper::map(std::string_view name, const ZookeeperRule& rule,
                                     std::span<const ZookeeperInstance> instances, InstancesKept& kept) {
  const std::string folder = rule.folder(name);
  std::vector<Instance> wanted;
  for (const ZookeeperInstance& one : instances) {
    if (has_labels(one, rule.labels)) wanted.push_back(to_instance(one, folder));
  }
  const InstancesAs as{.name = rule.name.empty() ? name_in_mesh(name) : rule.name,
                       .origin = folder,
                       .address = rule.address,
                       .port = rule.port,
                       .protocol = rule.protocol};
  return mapper_.map(as, wanted, kept);
}

}  // namespace mesh::discovery
