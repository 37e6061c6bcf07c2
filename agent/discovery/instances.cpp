// SPDX-License-Identifier: Apache-2.0
#include "discovery/instances.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>

#include "discovery/probe_keys.hpp"

namespace mesh::discovery {
namespace {

constexpr std::size_t kMaxNotes = 4;            // per service
constexpr std::size_t kMaxSharedProbes = 1000;  // kinds of them

void note(std::vector<std::string>& notes, std::string text) {
  if (notes.size() == kMaxNotes) notes.emplace_back("and more");
  if (notes.size() < kMaxNotes) notes.push_back(std::move(text));
}

std::optional<std::uint16_t> number_from(std::string_view text) {
  std::uint16_t number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::uint16_t weight_of(const Instance& instance, std::vector<std::string>& notes) {
  const std::string_view text = instance.meta_value("meshd-weight");
  if (text.empty() || instance.weight_is_fixed) return instance.weight;
  if (const auto weight = number_from(text)) return *weight;
  note(notes, instance.label + ": meshd-weight is not 0 to 65535, but '" + std::string(text) + "'");
  return instance.weight;
}

/// Instances as endpoints, by address.
std::vector<model::Endpoint> endpoints_of(std::span<const Instance> instances, std::vector<std::string>& notes) {
  std::vector<std::pair<model::Endpoint, unsigned>> found;
  found.reserve(instances.size());
  for (const Instance& instance : instances) {
    const auto ip = base::IpAddress::parse(instance.address);
    if (!ip || ip->is_unspecified()) {
      note(notes, instance.label + ": '" + instance.address +
                      "' is not an IP address, so it is left out: register addresses, or use a dns source");
    } else if (instance.port < 1 || instance.port > 65535) {
      note(notes, instance.label + " has no port, so it is left out");
    } else {
      model::Endpoint endpoint{.address = {*ip, static_cast<std::uint16_t>(instance.port)}};
      endpoint.weight = weight_of(instance, notes);
      endpoint.draining = instance.draining;
      endpoint.zone = instance.zone;
      endpoint.node = instance.node;
      endpoint.tier = instance.tier;
      found.emplace_back(std::move(endpoint), instance.rank);
    }
  }
  std::ranges::sort(found, [](const auto& a, const auto& b) {
    return std::tie(a.first.address, a.second, a.first.node) < std::tie(b.first.address, b.second, b.first.node);
  });
  std::vector<model::Endpoint> endpoints;
  endpoints.reserve(found.size());
  for (auto& [endpoint, rank] : found) {
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

std::uint16_t frontend_port(const InstancesAs& as, const Instance* newest, std::span<const model::Endpoint> endpoints,
                            std::uint16_t kept, std::vector<std::string>& notes) {
  if (as.port != 0) return as.port;
  if (const std::string_view text = newest != nullptr ? newest->meta_value("meshd-port") : ""; !text.empty()) {
    if (const auto port = number_from(text); port && *port != 0) return *port;
    note(notes, newest->label + ": meshd-port is not 1 to 65535, but '" + std::string(text) + "'");
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

}  // namespace

std::string_view Instance::meta_value(std::string_view key) const {
  for (const auto& [name, value] : meta) {
    if (name == key) return value;
  }
  return {};
}

void InstanceMapper::set_probe(std::string_view text, model::Service& service, std::vector<std::string>& notes) {
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
    if (colon < text.size()) {
      map.add(type == "grpc" ? "grpc_service" : "path", Value::string(std::string(text.substr(colon + 1))));
    }
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
  if (probes_.size() < kMaxSharedProbes) probes_.emplace(text, std::move(probe));
}

InstancesMapped InstanceMapper::map(const InstancesAs& as, std::span<const Instance> instances, InstancesKept& kept) {
  InstancesMapped mapped;
  if (as.name.empty()) {
    note(mapped.notes, "its name has other characters than a-z 0-9 . - / _: give its rule a name");
    return mapped;
  }
  const auto newest_at = std::ranges::max_element(instances, {}, &Instance::changed);
  const Instance* const newest = newest_at == instances.end() ? nullptr : &*newest_at;
  const std::vector<model::Endpoint> endpoints = endpoints_of(instances, mapped.notes);
  kept.port = frontend_port(as, newest, endpoints, kept.port, mapped.notes);
  if (kept.port == 0) return mapped;  // no instance yet that says it

  model::Service service;
  apply_policy(defaults_, service);
  service.name = as.name;
  service.origin = as.origin;
  if (as.protocol == model::Protocol::kUdp) service.probe = nullptr;  // no default probe speaks UDP
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
  if (!as.address.empty()) {
    given = *base::IpAddress::parse(as.address);
    kept.v4 = given.is_v4();
    kept.v6 = !kept.v4;
  } else if (!endpoints.empty()) {
    kept.v4 = std::ranges::any_of(endpoints, is_v4);
    kept.v6 = !std::ranges::all_of(endpoints, is_v4);
  } else if (!kept.v4 && !kept.v6) {
    kept.v4 = true;
  }
  std::size_t of_family = 0;
  for (const bool v4 : {true, false}) {
    if (!(v4 ? kept.v4 : kept.v6)) continue;
    model::Service& one = mapped.services.emplace_back(service);
    one.frontend = {{as.address.empty() ? any_address(v4) : given, kept.port}, as.protocol};
    for (const model::Endpoint& endpoint : endpoints) {
      if (is_v4(endpoint) != v4) continue;
      ++of_family;
      if (endpoint.address == one.frontend.address) {
        note(mapped.notes, endpoint.address.to_string() + " is the address of its own frontend, so it is left out");
        continue;
      }
      one.endpoints.push_back(endpoint);
    }
  }
  if (of_family < endpoints.size()) {
    note(mapped.notes, "instances of the other family than " + as.address + " are left out");
  }
  return mapped;
}

base::IpAddress any_address(bool v4) { return v4 ? *base::IpAddress::parse("0.0.0.0") : base::IpAddress{}; }

std::string name_in_mesh(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  return is_service_name(lower) ? lower : std::string();
}

}  // namespace mesh::discovery
