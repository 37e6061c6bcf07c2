// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_model.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "base/random.hpp"
#include "discovery/probe_keys.hpp"

namespace mesh::discovery {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxNotes = 4;  // per service
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

void note(std::vector<std::string>& notes, std::string text) {
  if (notes.size() == kMaxNotes) notes.emplace_back("and more");
  if (notes.size() < kMaxNotes) notes.push_back(std::move(text));
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

template <typename Number>
std::optional<Number> number_from(std::string_view text) {
  Number number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string label(const ConsulInstance& instance) { return "instance " + instance.id + " of node " + instance.node; }

/// How much traffic it gets; draining in maintenance.
void set_share(const ConsulInstance& instance, model::Endpoint& endpoint, std::vector<std::string>& notes) {
  endpoint.weight = instance.weight_passing;
  if (const std::string_view text = instance.meta_value("meshd-weight"); !text.empty()) {
    if (const auto weight = number_from<std::uint16_t>(text)) {
      endpoint.weight = *weight;
    } else {
      note(notes, label(instance) + ": meshd-weight is not 0 to 65535, but '" + std::string(text) + "'");
    }
  }
  if (instance.status == ConsulStatus::kWarning) endpoint.weight = instance.weight_warning;
  if (instance.status == ConsulStatus::kCritical) endpoint.weight = 0;
  endpoint.draining = instance.status == ConsulStatus::kMaintenance;
}

/// Instances as endpoints, by address; of two with one address the one in better health.
std::vector<model::Endpoint> endpoints_of(const std::vector<const ConsulInstance*>& instances,
                                          std::vector<std::string>& notes) {
  std::vector<std::pair<model::Endpoint, ConsulStatus>> found;
  for (const ConsulInstance* const instance : instances) {
    const auto ip = base::IpAddress::parse(instance->address);
    if (!ip || ip->is_unspecified()) {
      note(notes, label(*instance) + ": '" + instance->address +
                      "' is not an IP address, so it is left out: register addresses, or use a dns source");
    } else if (instance->port < 1 || instance->port > 65535) {
      note(notes, label(*instance) + " has no port, so it is left out");
    } else {
      model::Endpoint endpoint{.address = {*ip, static_cast<std::uint16_t>(instance->port)}};
      endpoint.zone = instance->zone;
      endpoint.node = instance->node;
      set_share(*instance, endpoint, notes);
      found.emplace_back(std::move(endpoint), instance->status);
    }
  }
  std::ranges::sort(found, [](const auto& a, const auto& b) {
    return std::tie(a.first.address, a.second, a.first.node) < std::tie(b.first.address, b.second, b.first.node);
  });
  std::vector<model::Endpoint> endpoints;
  for (auto& [endpoint, status] : found) {
    if (endpoints.empty() || endpoints.back().address != endpoint.address) endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

/// The port that most endpoints have, the lower of two; 0 without endpoints.
std::uint16_t common_port(std::span<const model::Endpoint> endpoints) {
  std::map<std::uint16_t, std::size_t> counts;
  for (const model::Endpoint& endpoint : endpoints) ++counts[endpoint.address.port];
  std::uint16_t best = 0;
  for (const auto& [port, count] : counts) {
    if (best == 0 || count > counts[best]) best = port;
  }
  return best;
}

std::uint16_t frontend_port(const ConsulRule& rule, const ConsulInstance* newest,
                            std::span<const model::Endpoint> endpoints, std::uint16_t kept,
                            std::vector<std::string>& notes) {
  if (rule.port != 0) return rule.port;
  if (const std::string_view text = newest != nullptr ? newest->meta_value("meshd-port") : ""; !text.empty()) {
    if (const auto port = number_from<std::uint16_t>(text); port && *port != 0) return *port;
    note(notes, label(*newest) + ": meshd-port is not 1 to 65535, but '" + std::string(text) + "'");
  }
  const auto has_port = [](std::uint16_t port) {
    return [port](const model::Endpoint& endpoint) { return endpoint.address.port == port; };
  };
  const bool still = kept != 0 && (endpoints.empty() || std::ranges::any_of(endpoints, has_port(kept)));
  const std::uint16_t port = still ? kept : common_port(endpoints);
  if (!std::ranges::all_of(endpoints, has_port(port))) {
    note(notes, "its instances have different ports, and its frontend has " + std::to_string(port) +
                    ": give the rule a port, or the instances meshd-port");
  }
  return port;
}

/// What stands for an address that the agent gives.
base::IpAddress any_address(bool v4) { return v4 ? *base::IpAddress::parse("0.0.0.0") : base::IpAddress{}; }

std::string mesh_name(std::string_view name, const ConsulRule& rule) {
  if (!rule.name.empty()) return rule.name;
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  const bool good = !lower.empty() && lower.size() <= 253 && std::ranges::all_of(lower, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || std::string_view("./_-").contains(c);
  });
  return good ? lower : std::string();
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

bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last *, and what of the text it has eaten
  std::size_t eaten = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      eaten = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++eaten;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

const ConsulRule* find_consul_rule(std::span<const ConsulRule> rules, const ConsulName& service) {
  const auto found = std::ranges::find_if(rules, [&](const ConsulRule& rule) {
    return (rule.match == kConsulAll || matches_pattern(rule.match, service.name)) && has_all(service.tags, rule.tags);
  });
  return found == rules.end() ? nullptr : &*found;
}

void ConsulMapper::set_probe(std::string_view text, model::Service& service, std::vector<std::string>& notes) {
  if (const auto known = probes_.find(text); known != probes_.end()) {
    service.probe = known->second;
    return;
  }
  std::shared_ptr<const model::ProbePolicy> probe;
  if (text != "none") {
    const auto colon = std::min(text.find(':'), text.size());
    const std::string type(text.substr(0, colon));
    Value map = Value::map();
    map.add("type", Value::string(type));
    if (colon < text.size())
      map.add(type == "grpc" ? "grpc_service" : "path", Value::string(std::string(text.substr(colon + 1))));
    model::ProbePolicy policy = defaults_.probe ? *defaults_.probe : model::ProbePolicy{};
    Findings findings;
    const Document document("meshd-probe", text);
    Decoder decoder(document, findings);
    decode_probe(decoder, map, policy);
    if (findings.error_count() > 0) {
      note(notes, "meshd-probe '" + std::string(text) + "' is ignored: " + findings.errors.front().message);
      return;
    }
    probe = std::make_shared<const model::ProbePolicy>(std::move(policy));
  }
  service.probe = probe;
  if (probes_.size() < 1000) probes_.emplace(text, std::move(probe));
}

ConsulMapper::ConsulMapper(ServicePolicy defaults, std::span<const model::ServicePtr> known)
    : defaults_(std::move(defaults)) {
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

ConsulMapped ConsulMapper::map(std::string_view name, const ConsulRule& rule, std::span<const ConsulInstance> instances,
                               ConsulKept& kept) {
  ConsulMapped mapped;
  std::vector<const ConsulInstance*> wanted;
  for (const ConsulInstance& instance : instances) {
    if (wants(rule, instance)) wanted.push_back(&instance);
  }
  const auto by_change = [](const ConsulInstance* a, const ConsulInstance* b) {
    return a->modify_index < b->modify_index;
  };
  const ConsulInstance* const newest = wanted.empty() ? nullptr : *std::ranges::max_element(wanted, by_change);

  const std::string in_mesh = mesh_name(name, rule);
  if (in_mesh.empty()) {
    note(mapped.notes, "its name has other characters than a-z 0-9 . - / _: give its rule a name");
    return mapped;
  }
  if (const auto known = known_.find(in_mesh); kept == ConsulKept{} && known != known_.end()) {
    for (const model::ServicePtr& service : known->second) {
      kept.port = service->frontend.address.port;
      (service->frontend.address.ip.is_v4() ? kept.v4 : kept.v6) = true;
    }
  }
  const std::vector<model::Endpoint> endpoints = endpoints_of(wanted, mapped.notes);
  kept.port = frontend_port(rule, newest, endpoints, kept.port, mapped.notes);
  if (kept.port == 0) return mapped;  // no instance yet that says it

  model::Service service;
  apply_policy(defaults_, service);
  service.name = in_mesh;
  service.origin = "health/service/" + std::string(name);
  if (rule.protocol == model::Protocol::kUdp) service.probe = nullptr;  // no default probe speaks UDP
  if (newest != nullptr) {
    if (const auto text = newest->meta_value("meshd-probe"); !text.empty()) set_probe(text, service, mapped.notes);
    if (const auto text = newest->meta_value("meshd-balance"); !text.empty()) {
      const auto balance = model::algorithm_from(text);
      if (balance && (*balance != model::Algorithm::kLatency || service.feedback)) {
        service.algorithm = *balance;
      } else {
        note(mapped.notes, "meshd-balance '" + std::string(text) +
                               "' is ignored: " + (balance ? "it needs feedback: true" : "no such balance"));
      }
    }
  }

  const auto is_v4 = [](const model::Endpoint& endpoint) { return endpoint.address.ip.is_v4(); };
  base::IpAddress given{};
  if (!rule.address.empty()) {
    given = *base::IpAddress::parse(rule.address);
    kept.v4 = given.is_v4();
    kept.v6 = !kept.v4;
  } else if (!endpoints.empty()) {
    kept.v4 = std::ranges::any_of(endpoints, is_v4);
    kept.v6 = !std::ranges::all_of(endpoints, is_v4);
  } else if (!kept.v4 && !kept.v6) {
    kept.v4 = true;
  }
  for (const bool v4 : {true, false}) {
    if (!(v4 ? kept.v4 : kept.v6)) continue;
    model::Service& one = mapped.services.emplace_back(service);
    one.frontend = {{rule.address.empty() ? any_address(v4) : given, kept.port}, rule.protocol};
    for (const model::Endpoint& endpoint : endpoints) {
      if (is_v4(endpoint) != v4) continue;
      if (endpoint.address == one.frontend.address) {
        note(mapped.notes, endpoint.address.to_string() + " is the address of its own frontend, so it is left out");
        continue;
      }
      one.endpoints.push_back(endpoint);
    }
  }
  std::size_t routed = 0;
  for (const model::Service& one : mapped.services) routed += one.endpoints.size();
  if (!rule.address.empty() && routed < endpoints.size()) {
    note(mapped.notes, "instances of the other family than " + rule.address + " are left out");
  }
  return mapped;
}

}  // namespace mesh::discovery
