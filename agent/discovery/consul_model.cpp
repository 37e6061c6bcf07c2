// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_model.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr std::string_view kMetaPrefix = "meshd-";

/// Parts of answers that can be large and say nothing to us.
bool is_ballast(const std::string& key) {
  return key == "Output" || key == "Definition" || key == "Notes" || key == "Proxy" || key == "Connect";
}

base::Result<Json> parse(std::string_view body, std::string_view what) {
  bool too_deep = false;
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) too_deep = true;
    if (event == Json::parse_event_t::key && is_ballast(parsed.get_ref<const std::string&>())) return false;
    return depth <= kMaxDepth;
  };
  Json json = Json::parse(body, filter, false);
  if (too_deep || json.is_discarded()) {
    return base::fail(base::ErrorKind::kInvalid,
                      "read " + std::string(what) + " of Consul: " +
                          (too_deep ? "nested deeper than " + std::to_string(kMaxDepth) + " levels" : "not JSON"),
                      "check that the address is that of Consul's HTTP API");
  }
  return json;
}

std::unexpected<base::Error> wrong_shape(std::string_view what, std::string_view wanted) {
  return base::fail(base::ErrorKind::kInvalid, "read " + std::string(what) + " of Consul: not " + std::string(wanted),
                    "check that the address is that of Consul's HTTP API");
}

/// A member of an object; null: there is none, or this is no object.
const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

const Json& object_at(const Json& object, const char* key) {
  static const Json kNone = Json::object();
  const Json* const found = member(object, key);
  return found != nullptr && found->is_object() ? *found : kNone;
}

std::string text_at(const Json& object, const char* key) {
  const Json* const found = member(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<std::string> texts(const Json* list) {
  std::vector<std::string> result;
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& item : *list) {
    if (item.is_string()) result.push_back(item.get<std::string>());
  }
  return result;
}

std::int64_t number_at(const Json& object, const char* key, std::int64_t otherwise) {
  const Json* const found = member(object, key);
  if (found == nullptr || !found->is_number_integer()) return otherwise;
  if (found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX) return INT64_MAX;
  return found->get<std::int64_t>();
}

std::uint16_t weight_at(const Json& weights, const char* key) {
  return static_cast<std::uint16_t>(std::clamp<std::int64_t>(number_at(weights, key, 1), 0, 65535));
}

ConsulStatus status_of(const Json& check) {
  const std::string id = text_at(check, "CheckID");
  const std::string status = text_at(check, "Status");
  if (status == "passing") return ConsulStatus::kPassing;
  if (id == "_node_maintenance" || id.starts_with("_service_maintenance:") || status == "maintenance") {
    return ConsulStatus::kMaintenance;
  }
  return status == "warning" ? ConsulStatus::kWarning : ConsulStatus::kCritical;
}

/// Address and port: the tagged one where asked for, else that of the service, else that of its node.
void set_address(const Json& node, const Json& service, std::string_view tag, ConsulInstance& instance) {
  instance.address = text_at(service, "Address");
  instance.port = number_at(service, "Port", 0);
  const bool of_node = instance.address.empty();
  if (of_node) instance.address = text_at(node, "Address");
  if (tag.empty()) return;
  const std::string key(tag);
  const Json& tagged = object_at(object_at(service, "TaggedAddresses"), key.c_str());
  if (std::string address = text_at(tagged, "Address"); !address.empty()) {
    instance.address = std::move(address);
    if (const std::int64_t port = number_at(tagged, "Port", 0); port != 0) instance.port = port;
  } else if (of_node) {
    if (std::string node_address = text_at(object_at(node, "TaggedAddresses"), key.c_str()); !node_address.empty()) {
      instance.address = std::move(node_address);
    }
  }
}

ConsulInstance instance_of(const Json& entry, std::string_view tagged_address) {
  const Json& node = object_at(entry, "Node");
  const Json& service = object_at(entry, "Service");
  const Json& meta = object_at(service, "Meta");
  ConsulInstance instance;
  instance.id = text_at(service, "ID");
  instance.node = text_at(node, "Node");
  set_address(node, service, tagged_address, instance);
  instance.tags = texts(member(service, "Tags"));
  const Json& weights = object_at(service, "Weights");
  instance.weight_passing = weight_at(weights, "Passing");
  instance.weight_warning = weight_at(weights, "Warning");
  for (const auto& [key, value] : meta.items()) {
    if (key.starts_with(kMetaPrefix) && value.is_string()) instance.meta.emplace_back(key, value.get<std::string>());
  }
  instance.zone = instance.meta_value("meshd-zone");
  if (instance.zone.empty()) instance.zone = text_at(object_at(node, "Meta"), "meshd-zone");
  if (instance.zone.empty()) instance.zone = text_at(object_at(service, "Locality"), "Zone");
  if (instance.zone.empty()) instance.zone = text_at(object_at(node, "Locality"), "Zone");
  instance.modify_index = static_cast<std::uint64_t>(std::max<std::int64_t>(0, number_at(service, "ModifyIndex", 0)));
  if (const Json* const checks = member(entry, "Checks"); checks != nullptr && checks->is_array()) {
    for (const Json& check : *checks) instance.status = std::max(instance.status, status_of(check));
  }
  return instance;
}

bool has(const std::vector<std::string>& tags, const std::string& tag) {
  return std::ranges::find(tags, tag) != tags.end();
}

bool has_all(const std::vector<std::string>& tags, const std::vector<std::string>& wanted) {
  return std::ranges::all_of(wanted, [&](const std::string& tag) { return has(tags, tag); });
}

bool wants(const ConsulRule& rule, const ConsulInstance& instance) {
  return has_all(instance.tags, rule.tags) &&
         std::ranges::none_of(rule.without_tags, [&](const std::string& tag) { return has(instance.tags, tag); });
}

/// Of two with one address the one in better health counts.
Instance to_instance(const ConsulInstance& from) {
  Instance instance{.label = "instance " + from.id + " of node " + from.node,
                    .address = from.address,
                    .port = from.port,
                    .weight = from.weight_passing,
                    .draining = from.status == ConsulStatus::kMaintenance,
                    .rank = static_cast<unsigned>(from.status),
                    .zone = from.zone,
                    .node = from.node,
                    .meta = from.meta,
                    .changed = from.modify_index};
  if (from.status == ConsulStatus::kWarning || from.status == ConsulStatus::kCritical) {
    instance.weight = from.status == ConsulStatus::kWarning ? from.weight_warning : 0;
    instance.weight_is_fixed = true;
  }
  return instance;
}

std::string mesh_name(std::string_view name, const ConsulRule& rule) {
  return rule.name.empty() ? name_in_mesh(name) : rule.name;
}

}  // namespace

std::string_view ConsulInstance::meta_value(std::string_view key) const {
  for (const auto& [name, value] : meta) {
    if (name == key) return value;
  }
  return {};
}

base::Result<std::vector<ConsulInstance>> parse_consul_health(std::string_view body, std::string_view tagged_address) {
  const Json json = MESH_TRY(parse(body, "the instances of a service"));
  if (!json.is_array()) return wrong_shape("the instances of a service", "a list");
  std::vector<ConsulInstance> instances;
  instances.reserve(json.size());
  for (const Json& entry : json) {
    if (!member(entry, "Service") || !member(entry, "Node")) {
      return wrong_shape("the instances of a service", "a list of nodes and services");
    }
    // Sidecars and gateways are not the service, and a socket file is no address.
    const Json& service = object_at(entry, "Service");
    if (!text_at(service, "Kind").empty() || !text_at(service, "SocketPath").empty()) continue;
    instances.push_back(instance_of(entry, tagged_address));
  }
  std::ranges::sort(instances, {}, [](const ConsulInstance& one) { return std::tie(one.node, one.id); });
  return instances;
}

base::Result<std::vector<ConsulName>> parse_consul_catalog(std::string_view body) {
  const Json json = MESH_TRY(parse(body, "the list of services"));
  if (!json.is_object()) return wrong_shape("the list of services", "a map");
  std::vector<ConsulName> names;
  names.reserve(json.size());
  for (const auto& [name, tags] : json.items()) names.push_back({name, texts(&tags)});
  return names;
}

base::Result<ConsulFailing> parse_consul_failing(std::string_view body) {
  const Json json = MESH_TRY(parse(body, "the failing checks"));
  if (!json.is_array()) return wrong_shape("the failing checks", "a list");
  ConsulFailing failing;
  for (const Json& check : json) {
    const std::string status = text_at(check, "Status");
    if (status == "passing") continue;
    const std::string node = text_at(check, "Node");
    const std::string service = text_at(check, "ServiceName");
    const std::string one =
        node + '\n' + text_at(check, "ServiceID") + '\n' + text_at(check, "CheckID") + '\n' + status;
    // A sum, because the order of an answer means nothing.
    (service.empty() ? failing.nodes[node] : failing.services[service]) +=
        base::hash64({reinterpret_cast<const std::uint8_t*>(one.data()), one.size()});
  }
  return failing;
}

const ConsulRule* find_consul_rule(std::span<const ConsulRule> rules, const ConsulName& service) {
  const auto found = std::ranges::find_if(rules, [&](const ConsulRule& rule) {
    return rule_matches(rule.match, service.name) && has_all(service.tags, rule.tags);
  });
  return found == rules.end() ? nullptr : &*found;
}

ConsulMapper::ConsulMapper(ServicePolicy defaults, std::span<const model::ServicePtr> known)
    : mapper_(std::move(defaults)) {
  for (const model::ServicePtr& service : known) known_[service->name].push_back(service);
}

std::vector<std::string> ConsulMapper::names_of_last_run() const {
  std::vector<std::string> names;
  for (const auto& [name, services] : known_) names.push_back(name);
  return names;
}

std::vector<model::Service> ConsulMapper::last_run(std::string_view name, const ConsulRule& rule) const {
  std::vector<model::Service> services;
  const auto found = known_.find(mesh_name(name, rule));
  if (found == known_.end()) return services;
  for (const model::ServicePtr& known : found->second) {
    model::Service& service = services.emplace_back(*known);
    if (rule.address.empty()) service.frontend.address.ip = any_address(service.frontend.address.ip.is_v4());
  }
  return services;
}

InstancesMapped ConsulMapper::map(std::string_view name, const ConsulRule& rule,
                                  std::span<const ConsulInstance> instances, InstancesKept& kept) {
  const InstancesAs as{.name = mesh_name(name, rule),
                       .origin = "health/service/" + std::string(name),
                       .address = rule.address,
                       .port = rule.port,
                       .protocol = rule.protocol};
  if (const auto known = known_.find(as.name); kept == InstancesKept{} && known != known_.end()) {
    for (const model::ServicePtr& service : known->second) {
      kept.port = service->frontend.address.port;
      (service->frontend.address.ip.is_v4() ? kept.v4 : kept.v6) = true;
    }
  }
  std::vector<Instance> wanted;
  for (const ConsulInstance& instance : instances) {
    if (wants(rule, instance)) wanted.push_back(to_instance(instance));
  }
  return mapper_.map(as, wanted, kept);
}

}  // namespace mesh::discovery
