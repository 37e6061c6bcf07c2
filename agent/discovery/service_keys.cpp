// SPDX-License-Identifier: Apache-2.0
#include "discovery/service_keys.hpp"

#include <algorithm>
#include <array>

#include "discovery/drain_keys.hpp"
#include "discovery/ejection_keys.hpp"
#include "discovery/probe_keys.hpp"
#include "discovery/service_tls_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;
using model::ProbePolicy;

template <>
struct EnumNames<model::Algorithm> {
  static constexpr std::array<std::string_view, 6> kNames = {"weighted_random", "round_robin",       "maglev",
                                                             "source_hash",     "least_connections", "latency"};
  static constexpr std::array<model::Algorithm, 6> kValues = {
      model::Algorithm::kWeightedRandom, model::Algorithm::kRoundRobin,       model::Algorithm::kMaglev,
      model::Algorithm::kSourceHash,     model::Algorithm::kLeastConnections, model::Algorithm::kLatency};
};
template <>
struct EnumNames<model::Preference> {
  static constexpr std::array<std::string_view, 3> kNames = {"none", "zone", "node"};
  static constexpr std::array<model::Preference, 3> kValues = {model::Preference::kNone, model::Preference::kZone,
                                                               model::Preference::kNode};
};
template <>
struct EnumNames<model::HashKey> {
  static constexpr std::array<std::string_view, 4> kNames = {"namespace", "cgroup", "uid", "source_address"};
  static constexpr std::array<model::HashKey, 4> kValues = {model::HashKey::kNamespace, model::HashKey::kCgroup,
                                                            model::HashKey::kUid, model::HashKey::kSourceAddress};
};

namespace {

constexpr std::size_t kMaxName = 253;
constexpr std::array<std::string_view, 2> kProtocolNames = {"tcp", "udp"};

bool is_prime(std::uint32_t number) {
  if (number < 2) return false;
  for (std::uint32_t divisor = 2; divisor * divisor <= number; ++divisor) {
    if (number % divisor == 0) return false;
  }
  return true;
}

constexpr Key with_schema(Key key, std::string_view schema) {
  key.type = KeyType::kCustom;
  key.schema = schema;
  return key;
}

void decode_maglev_size(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::int64_t number = 0;
  if (!decoder.integer(key, value, number)) return;
  const auto size = static_cast<std::uint32_t>(number);
  const auto [below, above] = nearest_primes(size);
  if (below != size) {
    decoder.error(value, std::to_string(size) + " is not a prime",
                  "the nearest are " + std::to_string(below) + " and " + std::to_string(above));
    return;
  }
  static_cast<ServicePolicy*>(target)->maglev_size = size;
}

void decode_policy_probe(Decoder& decoder, const Key&, const Value& value, void* target) {
  static_cast<ServiceDecoder*>(decoder.context)->probe(value, *static_cast<ServicePolicy*>(target));
}

Value encode_policy_probe(const Key&, const void* target, Secrets secrets) {
  const auto& probe = static_cast<const ServicePolicy*>(target)->probe;
  return probe ? encode_probe(*probe, secrets) : Value::string("none");
}

void decode_policy_ejection(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_ejection(decoder, value, static_cast<ServicePolicy*>(target)->ejection);
}

Value encode_policy_ejection(const Key&, const void* target, Secrets secrets) {
  return encode_ejection(static_cast<const ServicePolicy*>(target)->ejection, secrets);
}

void decode_policy_tls(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_service_tls(decoder, value, static_cast<ServicePolicy*>(target)->tls);
}

Value encode_policy_tls(const Key&, const void* target, Secrets secrets) {
  return encode_service_tls(static_cast<const ServicePolicy*>(target)->tls.get(), secrets);
}

constexpr Key kPolicyKeys[] = {
    key<&ServicePolicy::balance>("balance", "How a connection's endpoint is chosen."),
    key<&ServicePolicy::hash_key>("hash_key", "What a client is, for maglev, source_hash and affinity."),
    key<&ServicePolicy::affinity_timeout>(
        "affinity_timeout", "A client that comes back within this time gets the same endpoint; 0 is no affinity.",
        between(0s, 30 * 24h)),
    key<&ServicePolicy::panic_threshold>(
        "panic_threshold",
        "If fewer than this percentage of endpoints are up, those that are down are used too; 0 is never.", {0, 100}),
    key<&ServicePolicy::prefer>("prefer", "Endpoints that are used first: none, those of the agent's zone, or node."),
    key<&ServicePolicy::prefer_threshold>(
        "prefer_threshold",
        "With less than this percentage of the preferred endpoints up, connections spill over to the others.",
        {1, 100}),
    key<&ServicePolicy::slow_start>(
        "slow_start",
        "Time in which an endpoint that is new or back comes from a tenth to all of its weight; 0 is at once.",
        between(0s, 1h)),
    key<&ServicePolicy::feedback>("feedback",
                                  "Watch what connections experience: latency, failures, bytes, who made them."),
    with_decode(
        key<&ServicePolicy::maglev_size>(
            "maglev_size", "Entries of a Maglev table; a prime, best 100 times the number of endpoints.", {3, 1048573}),
        decode_maglev_size),
    {.name = "ejection",
     .doc = "When an endpoint gets no connections for a while because those it got failed; off is never.",
     .schema = R"({"oneOf":[{"enum":["on","off",true,false]},{"$ref":"#/definitions/ejection"}]})",
     .decode = decode_policy_ejection,
     .encode = encode_policy_ejection},
    {.name = "tls",
     .doc = "TLS that applications know nothing of; off is none.",
     .schema = R"({"oneOf":[{"enum":["off",false,"originate"]},{"$ref":"#/definitions/service_tls"}]})",
     .decode = decode_policy_tls,
     .encode = encode_policy_tls},
    {.name = "probe",
     .doc = "How endpoints are probed; none is not at all.",
     .schema = R"({"oneOf":[{"const":"none"},{"$ref":"#/definitions/probe"}]})",
     .decode = decode_policy_probe,
     .encode = encode_policy_probe},
};

const ServicePolicy kFreshPolicy{};

constexpr Key kEndpointKeys[] = {
    required(key<&model::Endpoint::address>("address", "Address and port of the server.")),
    key<&model::Endpoint::weight>("weight", "Share of new connections relative to the others; 0 is none.", {0, 65535}),
    key<&model::Endpoint::draining>("draining", "The server is leaving: no new connections."),
    key<&model::Endpoint::zone>("zone", "Where it runs, as agent.zone names it."),
    key<&model::Endpoint::node>("node", "Where it runs, as agent.node names it."),
    key<&model::Endpoint::tier>(
        "tier", "0 is used first; the next ones when less than prefer_threshold percent of those before are up.",
        {0, 255}),
};

const model::Endpoint kFreshEndpoint{};

void decode_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (is_service_name(text)) {
    static_cast<ServiceSpec*>(target)->name = std::move(text);
    return;
  }
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  decoder.error(value, "a name is 1 to 253 of a-z 0-9 . - / _",
                lower != text ? "write " + lower.substr(0, kMaxName) : "");
}

void decode_protocol(Decoder& decoder, const Key&, const Value& value, void* target) {
  const Key choice{.names = kProtocolNames};
  std::vector<model::Protocol> protocols;
  const auto read = [&](const Value& item) {
    std::string_view name;
    if (!decoder.choice(choice, item, name)) return;
    const auto protocol = *model::protocol_from(name);
    if (std::find(protocols.begin(), protocols.end(), protocol) != protocols.end()) {
      decoder.error(item, std::string(name) + " stands twice");
    } else {
      protocols.push_back(protocol);
    }
  };
  if (value.kind == Value::Kind::kList) {
    decoder.each(value, read);
    if (value.items.empty()) decoder.error(value, "names no protocol", "write tcp, udp or [tcp, udp]");
  } else {
    read(value);
  }
  if (!protocols.empty()) static_cast<ServiceSpec*>(target)->protocols = std::move(protocols);
}

Value encode_protocol(const Key&, const void* target, Secrets) {
  const auto& protocols = static_cast<const ServiceSpec*>(target)->protocols;
  if (protocols.size() == 1) return Value::string(std::string(model::to_string(protocols.front())));
  Value list = Value::list();
  for (const auto protocol : protocols) list.items.push_back(Value::string(std::string(model::to_string(protocol))));
  return list;
}

void decode_endpoints(Decoder& decoder, const Key&, const Value& value, void* target) {
  if (!decoder.is_list(value)) return;
  auto& services = *static_cast<ServiceDecoder*>(decoder.context);
  std::vector<model::Endpoint> endpoints(value.items.size());
  std::size_t index = 0;
  decoder.each(value, [&](const Value& item) { services.endpoint(item, endpoints[index++]); });
  static_cast<ServiceSpec*>(target)->endpoints = std::move(endpoints);
}

Value encode_endpoints(const Key&, const void* target, Secrets secrets) {
  const auto& endpoints = static_cast<const ServiceSpec*>(target)->endpoints;
  if (!endpoints) return {};
  Value list = Value::list();
  for (const model::Endpoint& endpoint : *endpoints) {
    const bool plain = endpoint == model::Endpoint{.address = endpoint.address};
    list.items.push_back(plain ? Value::string(endpoint.address.to_string())
                               : encode(kEndpointTable, &endpoint, secrets, Encode::kChanged));
  }
  return list;
}

constexpr Key kServiceKeys[] = {
    required(with_schema(with_decode(key<&ServiceSpec::name>(
                                         "name", "How people call it; unique or shared by the ports of one service."),
                                     decode_name),
                         R"({"type":"string","pattern":"^[a-z0-9./_-]{1,253}$"})")),
    required(key<&ServiceSpec::address>("address", "The address and port that applications connect to.")),
    {.name = "protocol",
     .doc = "tcp, udp or both.",
     .schema =
         R"({"oneOf":[{"enum":["tcp","udp"]},{"type":"array","minItems":1,"uniqueItems":true,"items":{"enum":["tcp","udp"]}}]})",
     .decode = decode_protocol,
     .encode = encode_protocol},
    {.name = "endpoints",
     .doc = "The servers: addresses, or maps with a weight. Exactly one of endpoints and file is given.",
     .schema = R"({"type":"array","items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/endpoint"}]}})",
     .decode = decode_endpoints,
     .encode = encode_endpoints},
    key<&ServiceSpec::file>("file", "A watched JSON or YAML file with the endpoints."),
};

const ServiceSpec kFreshService{};

}  // namespace

const Table kPolicyTable{.name = "defaults",
                         .keys = kPolicyKeys,
                         .defaults = &kFreshPolicy,
                         .base = &kDrainTable,
                         .base_of = [](void* object) -> void* { return &static_cast<ServicePolicy*>(object)->drain; }};
const Table kEndpointTable{.name = "an endpoint", .keys = kEndpointKeys, .defaults = &kFreshEndpoint};
const Table kServiceTable{.name = "a service",
                          .keys = kServiceKeys,
                          .defaults = &kFreshService,
                          .base = &kPolicyTable,
                          .base_of = [](void* object) -> void* { return &static_cast<ServiceSpec*>(object)->policy; }};

bool ServicePolicy::operator==(const ServicePolicy& other) const {
  const bool same_probe = probe == other.probe || (probe && other.probe && *probe == *other.probe);
  const bool same_tls = tls == other.tls || (tls && other.tls && *tls == *other.tls);
  return same_probe && same_tls && balance == other.balance && hash_key == other.hash_key &&
         affinity_timeout == other.affinity_timeout && panic_threshold == other.panic_threshold &&
         maglev_size == other.maglev_size && slow_start == other.slow_start && prefer == other.prefer &&
         prefer_threshold == other.prefer_threshold && feedback == other.feedback && ejection == other.ejection &&
         drain == other.drain;
}

bool is_service_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '/' || c == '_';
  });
}

void apply_policy(const ServicePolicy& policy, model::Service& service) {
  service.algorithm = policy.balance;
  service.hash_key = policy.hash_key;
  service.maglev_size = policy.maglev_size;
  service.affinity_timeout = policy.affinity_timeout;
  service.panic_threshold_percent = policy.panic_threshold;
  service.prefer = policy.prefer;
  service.prefer_threshold_percent = policy.prefer_threshold;
  service.slow_start = policy.slow_start;
  service.feedback = policy.feedback;
  service.ejection = policy.ejection;
  service.drain = policy.drain;
  service.tls = service.frontend.protocol == model::Protocol::kTcp ? policy.tls : nullptr;
  service.probe = policy.probe;
}

std::pair<std::uint32_t, std::uint32_t> nearest_primes(std::uint32_t number) {
  std::uint32_t below = std::max<std::uint32_t>(number, 2);
  while (!is_prime(below)) --below;
  std::uint32_t above = std::max<std::uint32_t>(number, 2);
  while (!is_prime(above)) ++above;
  return {below, above};
}

std::optional<std::pair<std::string, std::string>> endpoint_problem(const base::SocketAddress& endpoint,
                                                                    const base::SocketAddress& frontend) {
  const auto family = [](const base::SocketAddress& address) { return address.ip.is_v4() ? "IPv4" : "IPv6"; };
  if (endpoint.ip.is_v4() != frontend.ip.is_v4()) {
    return std::pair{endpoint.to_string() + " is " + family(endpoint) + ", the service's address " +
                         frontend.to_string() + " is " + family(frontend),
                     std::string("a service and its endpoints are of one family")};
  }
  if (endpoint == frontend) {
    return std::pair{endpoint.to_string() + " is the service's own address",
                     std::string("name the servers' addresses")};
  }
  return std::nullopt;
}

std::optional<base::SocketAddress> sort_endpoints(std::vector<model::Endpoint>& endpoints) {
  const auto by_address = [](const model::Endpoint& a, const model::Endpoint& b) { return a.address < b.address; };
  std::sort(endpoints.begin(), endpoints.end(), by_address);
  const auto twice = std::adjacent_find(endpoints.begin(), endpoints.end(),
                                        [](const auto& a, const auto& b) { return a.address == b.address; });
  if (twice == endpoints.end()) return std::nullopt;
  return twice->address;
}

void ServiceDecoder::probe(const Value& value, ServicePolicy& policy) {
  if (value.is_scalar() && value.text == "none") {
    policy.probe = nullptr;
    return;
  }
  if (value.kind != Value::Kind::kMap) {
    const bool is_type = model::probe_type_from(value.text).has_value();
    decoder_.error(value, "must be a map of keys and values, or none",
                   is_type ? "write {type: " + value.text + "}" : "");
    return;
  }
  ProbePolicy probe = policy.probe ? *policy.probe : ProbePolicy{};
  const std::size_t errors_before = decoder_.error_count();
  decode_probe(decoder_, value, probe);
  if (decoder_.error_count() > errors_before) return;
  const std::size_t hash = hash_of(probe);
  const auto [first, last] = probes_.equal_range(hash);
  const auto known = std::find_if(first, last, [&](const auto& entry) { return *entry.second == probe; });
  policy.probe = known != last ? known->second
                               : probes_.emplace(hash, std::make_shared<const ProbePolicy>(std::move(probe)))->second;
}

/// What goes without TLS, or to a server of no name, is not what was asked for.
void ServiceDecoder::check_service_tls(const Value& tls, const ServiceSpec& spec) {
  if (std::ranges::find(spec.protocols, model::Protocol::kUdp) != spec.protocols.end()) {
    decoder_.error(tls, "TLS is for TCP, and this service has UDP", "make it two services, or write tls: off");
  }
  if (spec.policy.tls->mode == model::TlsMode::kOriginate && spec.policy.tls->server_name.empty() &&
      !is_server_name(spec.name)) {
    decoder_.error(tls, "no server has a certificate for the name '" + spec.name + "'", "add server_name");
  }
}

bool ServiceDecoder::endpoint(const Value& value, model::Endpoint& out) {
  out = {};
  if (value.kind == Value::Kind::kString || value.kind == Value::Kind::kPlain)
    return decoder_.address(value, out.address);
  const std::size_t errors_before = decoder_.error_count();
  decoder_.table(kEndpointTable, value, &out);
  return decoder_.error_count() == errors_before;
}

std::optional<ServiceDecoder::Decoded> ServiceDecoder::service(const Value& value) {
  ServiceSpec spec;
  spec.policy = defaults_;
  void* const outer_context = std::exchange(decoder_.context, this);
  if (file_key_ == FileKey::kRefused) decoder_.refused_key = "file";
  decoder_.table(kServiceTable, value, &spec);
  decoder_.refused_key = {};
  decoder_.context = outer_context;
  if (value.kind != Value::Kind::kMap) return std::nullopt;

  const Value* const file = value.find("file");
  const Value* const endpoints = value.find("endpoints");
  if (file == nullptr && endpoints == nullptr) {
    decoder_.error(value, "a service needs 'endpoints' or a 'file'",
                   "write endpoints: [] for a service without servers");
  }
  if (file != nullptr) {
    decoder_.under("file", [&] {
      if (file_key_ == FileKey::kRefused) {
        decoder_.error_at(file->key_place, "is for services in meshd.yaml", "list the endpoints here");
      } else if (endpoints != nullptr) {
        decoder_.error_at(file->key_place, "a service has either 'endpoints' or a 'file'", "remove one of them");
      } else if (!spec.file.starts_with('/')) {
        decoder_.error(*file, "a path starts with /");
      }
    });
  }
  if (spec.policy.balance == model::Algorithm::kLatency && !spec.policy.feedback) {
    const Value* const written = value.find("balance");
    decoder_.under("balance", [&] {
      decoder_.error(written != nullptr ? *written : value, "latency needs what connections experienced",
                     "write feedback: true, or balance: least_connections");
    });
  }

  if (spec.address.ip.is_unspecified()) return std::nullopt;

  if (spec.endpoints) {
    const auto report = [&](std::size_t i, const std::string& message, const std::string& suggestion) {
      decoder_.under("endpoints", [&] {
        decoder_.element(endpoints->items[i], i, [&](const Value& item) {
          const Value* const written = item.find("address");
          decoder_.error(written != nullptr ? *written : item, message, suggestion);
        });
      });
    };
    for (std::size_t i = 0; i < spec.endpoints->size(); ++i) {
      const base::SocketAddress& address = (*spec.endpoints)[i].address;
      if (address.ip.is_unspecified()) continue;  // it was not understood, and that was said
      if (const auto problem = endpoint_problem(address, spec.address)) report(i, problem->first, problem->second);
    }
    std::vector<model::Endpoint> sorted = *spec.endpoints;
    std::erase_if(sorted, [](const model::Endpoint& endpoint) { return endpoint.address.ip.is_unspecified(); });
    if (const auto twice = sort_endpoints(sorted)) {
      std::size_t last = spec.endpoints->size() - 1;
      while ((*spec.endpoints)[last].address != *twice) --last;
      report(last, "endpoint " + twice->to_string() + " stands twice", "remove one of them");
    }
    spec.endpoints = std::move(sorted);
  }

  Decoded decoded{.services = {}, .file = std::move(spec.file), .address_place = value.find("address")->place};
  if (const Value* ejection = value.find("ejection");
      ejection && spec.policy.ejection.enabled && !spec.policy.feedback) {
    decoder_.under("ejection", [&] {
      decoder_.warn(*ejection, "does nothing without feedback", "set feedback: true or ejection: off");
    });
  }
  if (const Value* tls = value.find("tls"); tls != nullptr && spec.policy.tls) {
    decoder_.under("tls", [&] { check_service_tls(*tls, spec); });
  }
  const bool only_udp = spec.protocols == std::vector{model::Protocol::kUdp};
  if (only_udp && value.find("probe") == nullptr) spec.policy.probe = nullptr;  // no default probe speaks UDP
  for (const model::Protocol protocol : spec.protocols) {
    model::Service service;
    service.name = spec.name;
    service.frontend = {spec.address, protocol};
    apply_policy(spec.policy, service);
    if (spec.endpoints) service.endpoints = *spec.endpoints;
    service.source = "file";
    service.origin = origin_name_ + ":" + std::to_string(decoder_.line_of(value));
    decoded.services.push_back(std::move(service));
  }
  return decoded;
}

Value encode_service(const model::Service& service, Secrets secrets, Encode what) {
  ServiceSpec spec;
  spec.name = service.name;
  spec.address = service.frontend.address;
  spec.protocols = {service.frontend.protocol};
  spec.policy = {service.algorithm,
                 service.hash_key,
                 service.affinity_timeout,
                 service.panic_threshold_percent,
                 service.maglev_size,
                 service.prefer,
                 service.prefer_threshold_percent,
                 service.slow_start,
                 service.feedback,
                 service.ejection,
                 service.drain,
                 service.tls,
                 service.probe};
  spec.endpoints = service.endpoints;
  Value map = encode(kServiceTable, &spec, secrets, what);
  std::erase_if(map.items, [](const Value& item) { return item.key == "file"; });
  return map;
}

}  // namespace mesh::discovery
