// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_keys.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "discovery/service_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<DnsFamily> {
  static constexpr std::array<std::string_view, 3> kNames = {"ipv4", "ipv6", "both"};
  static constexpr std::array<DnsFamily, 3> kValues = {DnsFamily::kV4, DnsFamily::kV6, DnsFamily::kBoth};
};

namespace {

constexpr std::uint16_t kDnsPort = 53;
constexpr std::size_t kMaxServers = 8;  ///< c-ares tells of 16 sockets at once: one UDP and one TCP each.
constexpr std::size_t kMaxServices = 20'000;
constexpr std::size_t kMaxDnsName = 253;
constexpr std::size_t kMaxLabel = 63;

const DnsSettings kFreshDns{};
const DnsService kFreshService{};

/// Lower case, without a final dot; empty: it is none.
std::string normal_dns_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > kMaxDnsName) return {};
  std::string normal;
  std::size_t label = 0;
  for (const char c : text) {
    label = c == '.' ? 0 : label + 1;
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (label > kMaxLabel || (c != '.' && !letter) || (c == '.' && (normal.empty() || normal.back() == '.'))) return {};
    normal += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return normal;
}

template <std::string DnsService::* Member>
void decode_dns_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  std::string normal = normal_dns_name(text);
  if (normal.empty()) {
    decoder.error(value, "'" + text + "' is no domain name", "write it in full, as orders.example.com");
    return;
  }
  static_cast<DnsService*>(target)->*Member = std::move(normal);
}

void decode_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!is_service_name(text)) {
    decoder.error(value, "a name is 1 to 253 of a-z 0-9 . - / _");
    return;
  }
  static_cast<DnsService*>(target)->name = std::move(text);
}

void decode_servers(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  bool good = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      if (const auto server = parse_dns_server(texts[i]); !server) {
        good = decoder.error(item, server.error().message, server.error().remedy);
      }
    });
  }
  if (texts.size() > kMaxServers) good = decoder.error(value, "more than " + std::to_string(kMaxServers) + " servers");
  if (good) static_cast<DnsSettings*>(target)->servers = std::move(texts);
}

void decode_resolv_conf(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<DnsSettings*>(target)->resolv_conf = std::move(text);
}

void check_service(Decoder& decoder, const Value& value, DnsService& service) {
  if (service.host.empty() == service.srv.empty()) {
    decoder.error(value, service.host.empty() ? "a service needs 'host' or 'srv'" : "has 'host' and 'srv'",
                  "host is for A and AAAA records, srv for SRV records");
  }
  if (service.address.port != 0) {
    if (service.port != 0 && !service.srv.empty()) {
      decoder.error(value, "has 'address' and 'port'", "the address has a port: remove port");
    }
    service.family = service.address.ip.is_v4() ? DnsFamily::kV4 : DnsFamily::kV6;
  }
  if (service.address.port == 0 && service.port == 0) {
    decoder.error(value, "the key 'port' is missing", "it is the port that applications connect to");
  }
  if (!service.host.empty() && service.port == 0 && service.endpoint_port == 0) {
    decoder.error(value, "the servers' port is not known", "add endpoint_port");
  }
  if (!service.srv.empty() && service.endpoint_port != 0) {
    decoder.error(value, "has 'srv' and 'endpoint_port'", "SRV records say the port: remove endpoint_port");
  }
}

void decode_services(Decoder& decoder, const Key&, const Value& value, void* target) {
  if (value.kind == Value::Kind::kNull || !decoder.is_list(value)) return;
  auto& services = static_cast<DnsSettings*>(target)->services;
  std::set<std::string> seen;
  decoder.each(value, [&](const Value& item) {
    DnsService service;
    const std::size_t errors_before = decoder.error_count();
    decoder.table(kDnsServiceTable, item, &service);
    if (decoder.error_count() == errors_before) check_service(decoder, item, service);
    if (decoder.error_count() > errors_before) return;
    const std::string identity = service.name + ' ' + std::to_string(service.port) + service.address.to_string() +
                                 std::string(model::to_string(service.protocol));
    if (!seen.insert(identity).second) {
      decoder.error(item, service.name + " stands twice with this port", "remove one of them");
    } else if (services.size() == kMaxServices) {
      decoder.error(item, "more than " + std::to_string(kMaxServices) + " services");
    } else {
      services.push_back(std::move(service));
    }
  });
}

Value encode_services(const Key&, const void* target, Secrets secrets) {
  Value list = Value::list();
  for (const DnsService& service : static_cast<const DnsSettings*>(target)->services) {
    Value map = encode(kDnsServiceTable, &service, secrets, Encode::kChanged);
    if (service.address.port != 0) std::erase_if(map.items, [](const Value& item) { return item.key == "family"; });
    list.items.push_back(std::move(map));
  }
  return list;
}

constexpr Key kServiceKeys[] = {
    required(with_decode(key<&DnsService::name>("name", "How people call the service."), decode_name)),
    with_decode(
        key<&DnsService::host>("host", "Name with A and AAAA records; written in full, without search domains."),
        decode_dns_name<&DnsService::host>),
    with_decode(key<&DnsService::srv>("srv", "Name with SRV records, as _http._tcp.orders.example.com."),
                decode_dns_name<&DnsService::srv>),
    key<&DnsService::port>("port", "The port that applications connect to, and with host that of the servers.",
                           {0, 65535}),
    key<&DnsService::endpoint_port>("endpoint_port",
                                    "With host: the servers' port, where it is another; 0 is the same.", {0, 65535}),
    key<&DnsService::address>("address", "The address and port that applications connect to; none: from vip_range."),
    key<&DnsService::protocol>("protocol", "Of the service."),
    key<&DnsService::family>("family", "Without an address: which families the service has; both are two services."),
};

constexpr Key kDnsKeys[] = {
    {.name = "servers",
     .doc = "Resolvers to ask, in this order; empty is those of resolv_conf.",
     .type = KeyType::kStrings,
     .decode = decode_servers,
     .encode = [](const Key&, const void* target,
                  Secrets) { return keys_detail::encode_strings(static_cast<const DnsSettings*>(target)->servers); }},
    with_decode(key<&DnsSettings::resolv_conf>("resolv_conf", "Where the nameserver lines stand; watched."),
                decode_resolv_conf),
    key<&DnsSettings::timeout>("timeout", "Until the next resolver is asked; doubles with each round.",
                               between(50ms, 30s)),
    key<&DnsSettings::tries>("tries", "Rounds over all resolvers.", {1, 5}),
    key<&DnsSettings::ttl_floor>("ttl_floor", "Nothing is asked again sooner, whatever its TTL.", between(1s, 1h)),
    key<&DnsSettings::ttl_cap>("ttl_cap", "Everything is asked again after this, whatever its TTL.", between(1s, 24h)),
    key<&DnsSettings::negative_confirmations>(
        "negative_confirmations",
        "So many answers in a row that there is no such name or record take known endpoints away.", {1, 10}),
    {.name = "services",
     .doc = "Services and the names their endpoints stand under; nothing else is asked for.",
     .schema = R"({"type":["array","null"],"items":{"$ref":"#/definitions/dns_service"}})",
     .decode = decode_services,
     .encode = encode_services},
};

}  // namespace

const Table kDnsTable{.name = "dns", .keys = kDnsKeys, .defaults = &kFreshDns};
const Table kDnsServiceTable{.name = "a service of dns", .keys = kServiceKeys, .defaults = &kFreshService};

base::Result<base::SocketAddress> parse_dns_server(const std::string& text) {
  if (const auto ip = base::IpAddress::parse(text)) return base::SocketAddress{*ip, kDnsPort};
  if (auto address = base::SocketAddress::parse(text)) return *address;
  return base::fail(base::ErrorKind::kInvalid, "'" + text + "' is not the address of a resolver",
                    "write it as 10.0.0.53, 10.0.0.53:5353 or \"[fd00::53]:5353\"");
}

void finish_dns_settings(Decoder& decoder, const Value& value, DnsSettings& settings) {
  if (settings.ttl_cap < settings.ttl_floor) {
    const Value* const cap = value.find("ttl_cap");
    decoder.error(cap != nullptr ? *cap : value, "ttl_cap is less than ttl_floor", "make it more");
  }
}

}  // namespace mesh::discovery
