// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_model.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <tuple>
#include <utility>

#include "discovery/registry.hpp"
#include "discovery/yaml_reader.hpp"

namespace mesh::discovery::kubernetes {
namespace {

constexpr std::size_t kMaxProblems = 20;
constexpr std::size_t kMaxAnnotation = 4096;
constexpr std::string_view kWeightKey = "weight";    // of a slice: of all its endpoints
constexpr std::string_view kWeightsKey = "weights";  // of a Service

const std::string* find(const Annotations& annotations, std::string_view key) {
  const auto found = std::ranges::find(annotations, key, &std::pair<std::string, std::string>::first);
  return found == annotations.end() ? nullptr : &found->second;
}

std::optional<std::uint16_t> weight_from(std::string_view text) {
  unsigned number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc{} || end != text.data() + text.size() || number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(number);
}

Weights weights_of(const ServiceObject& service, std::vector<std::string>& problems) {
  Weights weights;
  const std::string* const written = find(service.meta.annotations, kWeightsKey);
  if (written == nullptr) return weights;
  std::string_view rest = *written;
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto equals = one.find('=');
    const auto weight = equals == std::string_view::npos ? std::nullopt : weight_from(one.substr(equals + 1));
    if (!weight) {
      problems.push_back("meshd.io/weights: '" + std::string(one) + "' is not NAME=WEIGHT with a weight up to 65535");
      continue;
    }
    const std::string_view name = one.substr(one.find_first_not_of(' '), equals - one.find_first_not_of(' '));
    weights[identity_hash(name)] = *weight;
  }
  return weights;
}

/// Whether `a` changed later than `b`; both RFC 3339 in UTC, with or without fractions of a second.
bool changed_later(std::string_view a, std::string_view b) {
  static constexpr std::size_t kSeconds = 19;  // "2026-11-20T12:04:31"
  const auto fraction = [](std::string_view text) {
    text.remove_prefix(std::min(text.size(), kSeconds));
    return text.substr(0, text.find('Z'));
  };
  const int order = a.substr(0, kSeconds).compare(b.substr(0, kSeconds));
  return order != 0 ? order > 0 : fraction(a) > fraction(b);
}

struct Candidate {
  const SliceEndpoint* endpoint;
  const SliceObject* slice;
  std::uint16_t port;

  [[nodiscard]] base::SocketAddress address() const { return {endpoint->ip, port}; }
  [[nodiscard]] bool fallback() const { return endpoint->serving && endpoint->terminating; }
};

/// One address may stand twice: an endpoint on its way from slice to slice, then the later word counts; or a pod that
/// ended and one that got its address, then the one that is ready (kubernetes issues 101935, 135266).
bool better(const Candidate& a, const Candidate& b) {
  const bool same = a.endpoint->target == b.endpoint->target && a.endpoint->target != 0;
  const bool later = changed_later(a.slice->meta.changed_at, b.slice->meta.changed_at);
  const bool earlier = changed_later(b.slice->meta.changed_at, a.slice->meta.changed_at);
  if (same && later != earlier) return later;
  const auto rank = [](const Candidate& one) { return std::tuple(one.endpoint->ready, one.endpoint->serving); };
  if (rank(a) != rank(b)) return rank(a) > rank(b);
  if (later != earlier) return later;
  return a.slice->meta.name < b.slice->meta.name;
}

std::vector<Candidate> candidates_of(std::span<const SliceObject* const> slices, const ServicePort& port, bool v4) {
  std::vector<Candidate> candidates;
  for (const SliceObject* const slice : slices) {
    if (slice->type != (v4 ? AddressType::kV4 : AddressType::kV6)) continue;
    for (const SlicePort& slice_port : slice->ports) {
      if (slice_port.port == 0 || slice_port.name != port.name || slice_port.protocol != port.protocol) continue;
      for (const SliceEndpoint& endpoint : slice->endpoints) candidates.push_back({&endpoint, slice, slice_port.port});
    }
  }
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    if (const auto order = a.address() <=> b.address(); order != 0) return order < 0;
    return better(a, b);
  });
  const auto twice = std::ranges::unique(candidates, {}, &Candidate::address);
  candidates.erase(twice.begin(), twice.end());
  return candidates;
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

enum class Topology : std::uint8_t { kNone, kNode, kZone };

/// Hints count if every ready endpoint has some and at least one is for here; of the node before those of the zone.
Topology topology_of(const std::vector<Candidate>& candidates, const model::Place& here) {
  bool all_node = true;
  bool all_zone = true;
  bool for_node = false;
  bool for_zone = false;
  for (const auto& [endpoint, slice, port] : candidates) {
    if (!endpoint->ready) continue;
    all_node = all_node && !endpoint->node_hints.empty();
    all_zone = all_zone && !endpoint->zone_hints.empty();
    for_node = for_node || has(endpoint->node_hints, here.node);
    for_zone = for_zone || has(endpoint->zone_hints, here.zone);
  }
  if (all_node && for_node && !here.node.empty()) return Topology::kNode;
  if (all_zone && for_zone && !here.zone.empty()) return Topology::kZone;
  return Topology::kNone;
}

bool available(const SliceEndpoint& endpoint, Topology topology, const model::Place& here) {
  if (topology == Topology::kNode) return has(endpoint.node_hints, here.node);
  if (topology == Topology::kZone) return has(endpoint.zone_hints, here.zone);
  return true;
}

/// CategorizeEndpoints: who gets connections, and as what the others are kept.
std::vector<model::Endpoint> categorize(std::vector<Candidate> candidates, bool local_only, const ImportRules& rules,
                                        const Weights& weights) {
  const model::Place& here = rules.here;
  if (local_only) {
    std::erase_if(candidates,
                  [&](const Candidate& one) { return one.endpoint->node != here.node || here.node.empty(); });
  }
  const Topology topology = local_only ? Topology::kNone : topology_of(candidates, here);
  const bool any_ready = std::ranges::any_of(candidates, [&](const Candidate& one) { return one.endpoint->ready; });

  std::vector<model::Endpoint> endpoints;
  endpoints.reserve(candidates.size());
  for (const Candidate& one : candidates) {
    const SliceEndpoint& from = *one.endpoint;
    model::Endpoint& endpoint = endpoints.emplace_back();
    endpoint.address = one.address();
    endpoint.zone = from.zone;
    endpoint.node = from.node;
    if (const std::string* const weight = find(one.slice->meta.annotations, kWeightKey)) {
      endpoint.weight = weight_from(*weight).value_or(endpoint.weight);
    }
    if (!weights.empty()) {
      const auto by_pod = weights.find(from.pod);
      const auto found = by_pod != weights.end() ? by_pod : weights.find(identity_hash(from.ip.to_string()));
      if (found != weights.end()) endpoint.weight = found->second;
    }
    const bool chosen = any_ready ? from.ready && available(from, topology, here) : one.fallback();
    if (chosen) continue;
    if (from.terminating && !from.ready) {
      endpoint.draining = true;
    } else {
      endpoint.weight = 0;
    }
  }
  return endpoints;
}

struct Address {
  base::IpAddress ip;
  bool cluster;  ///< Of the cluster: internalTrafficPolicy counts.
};

std::vector<Address> addresses_of(const ServiceObject& service, const ImportRules& rules) {
  std::vector<Address> addresses;
  for (const base::IpAddress& ip : service.cluster_ips) addresses.push_back({ip, true});
  if (service.headless && rules.headless) {
    if (service.v4 || !service.v6) addresses.push_back({*base::IpAddress::parse("0.0.0.0"), true});
    if (service.v6) addresses.push_back({base::IpAddress{}, true});
  }
  if (rules.external_addresses) {
    for (const base::IpAddress& ip : service.external_ips) addresses.push_back({ip, false});
  }
  return addresses;
}

}  // namespace

ServicePolicy annotated_policy(const ServicePolicy& base, const Annotations& annotations,
                               std::vector<std::string>& problems) {
  ServicePolicy policy = base;
  for (const auto& [name, text] : annotations) {
    if (name == kWeightKey || name == kWeightsKey) continue;
    const auto refuse = [&](const std::string& why) {
      problems.push_back(std::string(kAnnotationPrefix) + name + ": " + why);
    };
    std::string key = name;
    std::ranges::replace(key, '-', '_');
    if (text.size() > kMaxAnnotation) {
      refuse("longer than " + std::to_string(kMaxAnnotation) + " bytes");
      continue;
    }
    Findings findings;
    const Document document(std::string(kAnnotationPrefix) + name, text);
    auto value = read_yaml(document, text, findings);
    ServicePolicy changed = policy;
    if (value) {
      Value map = Value::map();
      map.place = value->place;
      value->key = key;
      map.items.push_back(std::move(*value));
      Decoder decoder(document, findings);
      ServiceDecoder services(decoder, base, ServiceDecoder::FileKey::kRefused, document.file());
      decoder.context = &services;
      decoder.table(kPolicyTable, map, &changed);
    }
    if (findings.error_count() == 0) {
      policy = std::move(changed);
    } else {
      refuse(findings.errors.empty() ? "not understood" : findings.errors.front().message);
    }
  }
  if (policy.balance == model::Algorithm::kLatency && !policy.feedback) {
    problems.emplace_back("meshd.io/balance: latency needs feedback");
    policy.balance = base.balance;
    policy.feedback = base.feedback;
  }
  return policy;
}

std::vector<model::ServicePtr> import_service(const ServiceObject& service, std::span<const SliceObject* const> slices,
                                              const ImportRules& rules, std::vector<std::string>& problems) {
  if (service.external_name || service.meta.foreign_proxy) return {};
  const std::vector<Address> addresses = addresses_of(service, rules);
  if (addresses.empty()) return {};

  std::vector<std::string> found;
  const ServicePolicy policy = annotated_policy(rules.policy, service.meta.annotations, found);
  const Weights weights = weights_of(service, found);
  for (std::string& problem : found) problems.push_back("service " + service.meta.key() + ": " + std::move(problem));

  std::vector<model::ServicePtr> imported;
  for (const ServicePort& port : service.ports) {
    if (port.port == 0 || !port.protocol) continue;
    for (const Address& address : addresses) {
      auto one = std::make_shared<model::Service>();
      apply_policy(policy, *one);
      one->name = service.meta.name + "." + service.meta.space;
      one->frontend = {{address.ip, port.port}, *port.protocol};
      one->source = rules.source;
      one->origin = service.meta.key() + (port.name.empty() ? "" : ":" + port.name);
      if (service.client_ip_affinity) one->affinity_timeout = service.affinity_timeout;
      // No probe of ours speaks UDP.
      if (port.protocol == model::Protocol::kUdp) one->probe = nullptr;
      one->endpoints = categorize(candidates_of(slices, port, address.ip.is_v4()),
                                  service.internal_local && address.cluster, rules, weights);
      std::erase_if(one->endpoints, [&](const model::Endpoint& e) { return e.address == one->frontend.address; });
      imported.push_back(std::move(one));
    }
  }
  return imported;
}

void Cluster::put(ServiceObject service) {
  const std::string key = service.meta.key();
  gone_services_.erase(key);
  services_[key].object = std::move(service);
  touch(key);
}

void Cluster::put(SliceObject slice) {
  const std::string key = slice.meta.key();
  gone_slices_.erase(key);
  const std::string owner = slice.meta.space + "/" + slice.meta.service_name;
  SliceObject& known = slices_[key];
  const std::string before = known.meta.space + "/" + known.meta.service_name;
  if (before != owner && !known.meta.name.empty()) {  // the label changed
    of_[before].erase(key);
    touch(before);
  }
  of_[owner].insert(key);
  touch(owner);
  known = std::move(slice);
}

void Cluster::remove_service(const std::string& key) {
  gone_services_.erase(key);
  const auto known = services_.find(key);
  if (known == services_.end()) return;
  removed_ = removed_ || !known->second.imported.empty();
  services_.erase(known);
}

void Cluster::remove_slice(const std::string& key) {
  gone_slices_.erase(key);
  const auto known = slices_.find(key);
  if (known == slices_.end()) return;
  const std::string owner = known->second.meta.space + "/" + known->second.meta.service_name;
  if (const auto keys = of_.find(owner); keys != of_.end()) {
    keys->second.erase(key);
    if (keys->second.empty()) of_.erase(keys);
  }
  touch(owner);
  slices_.erase(known);
}

namespace {

bool is_in(std::string_view key, std::string_view space) {
  return space.empty() || (key.starts_with(space) && key.substr(space.size()).starts_with('/'));
}

/// The keys of a map that are of a namespace.
std::set<std::string> keys_in(const auto& map, std::string_view space) {
  std::set<std::string> keys;
  for (const auto& [key, value] : map) {
    if (is_in(key, space)) keys.insert(key);
  }
  return keys;
}

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) {
  return std::tie(a->frontend, a->name) < std::tie(b->frontend, b->name);
}

/// Takes those of a namespace out of a set of keys.
std::vector<std::string> taken(std::set<std::string>& keys, std::string_view space) {
  std::vector<std::string> result;
  std::erase_if(keys, [&](const std::string& key) {
    const bool in = is_in(key, space);
    if (in) result.push_back(key);
    return in;
  });
  return result;
}

}  // namespace

void Cluster::begin_services(std::string_view space) { gone_services_.merge(keys_in(services_, space)); }

void Cluster::begin_slices(std::string_view space) { gone_slices_.merge(keys_in(slices_, space)); }

void Cluster::end_services(std::string_view space) {
  for (const std::string& key : taken(gone_services_, space)) remove_service(key);
}

void Cluster::end_slices(std::string_view space) {
  for (const std::string& key : taken(gone_slices_, space)) remove_slice(key);
}

/// Puts services into `all_` in place of others with the same frontends and name. False: they aren't there.
bool Cluster::exchange(const std::vector<model::ServicePtr>& before, const std::vector<model::ServicePtr>& now) {
  if (!stand_for(now, before)) return false;
  for (std::size_t i = 0; i < now.size(); ++i) {
    auto place = std::ranges::lower_bound(all_, before[i], by_frontend);
    while (place != all_.end() && *place != before[i] && !by_frontend(before[i], *place)) ++place;
    if (place == all_.end() || *place != before[i]) return false;
    *place = now[i];
    exchanged_.push_back(now[i]);
  }
  return true;
}

bool Cluster::update() {
  bool changed = std::exchange(removed_, false);
  sorted_ = sorted_ && !changed;
  for (const std::string& key : std::exchange(dirty_, {})) {
    const auto known = services_.find(key);
    if (known == services_.end()) continue;
    std::vector<const SliceObject*> slices;
    if (const auto keys = of_.find(key); keys != of_.end()) {
      for (const std::string& slice : keys->second) slices.push_back(&slices_.at(slice));
    }
    std::vector<model::ServicePtr> imported = import_service(known->second.object, slices, rules_, problems_);
    const auto same = [](const model::ServicePtr& a, const model::ServicePtr& b) {
      return a->origin == b->origin && a->same_as(*b);
    };
    if (std::ranges::equal(imported, known->second.imported, same)) continue;
    sorted_ = sorted_ && exchange(known->second.imported, imported);
    known->second.imported = std::move(imported);
    changed = true;
  }
  if (problems_.size() > kMaxProblems) problems_.resize(kMaxProblems);
  return changed;
}

std::vector<model::ServicePtr> Cluster::take_exchanged() {
  return sorted_ ? std::exchange(exchanged_, {}) : std::vector<model::ServicePtr>{};
}

const std::vector<model::ServicePtr>& Cluster::services() {
  exchanged_.clear();
  if (std::exchange(sorted_, true)) return all_;
  all_.clear();
  for (const auto& [key, known] : services_) all_.insert(all_.end(), known.imported.begin(), known.imported.end());
  // Two may claim one address, outside of the cluster's own: always the same one has it.
  std::ranges::sort(all_, by_frontend);
  const bool given = rules_.headless;  // unspecified addresses become different ones
  const auto twice = std::ranges::unique(all_, [&](const model::ServicePtr& a, const model::ServicePtr& b) {
    return a->frontend == b->frontend && !(given && a->frontend.address.ip.is_unspecified());
  });
  all_.erase(twice.begin(), twice.end());
  return all_;
}

std::vector<std::string> Cluster::take_problems() { return std::exchange(problems_, {}); }

}  // namespace mesh::discovery::kubernetes
