// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_keys.hpp"

#include <algorithm>
#include <array>

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<ConsulConsistency> {
  static constexpr std::array<std::string_view, 3> names = {"stale", "default", "consistent"};
  static constexpr std::array<ConsulConsistency, 3> values = {ConsulConsistency::kStale, ConsulConsistency::kDefault,
                                                              ConsulConsistency::kConsistent};
};
template <>
struct EnumNames<model::Protocol> {
  static constexpr std::array<std::string_view, 2> names = {"tcp", "udp"};
  static constexpr std::array<model::Protocol, 2> values = {model::Protocol::kTcp, model::Protocol::kUdp};
};

namespace {

void decode_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto is = [&](std::string_view scheme) { return text.starts_with(scheme) && text.size() > scheme.size(); };
  if (!is("http://") && !is("https://") && !is("unix:///")) {
    decoder.error(value, "'" + text + "' is not the address of a Consul server",
                  text.contains("://") || text.empty() ? "write it as http://127.0.0.1:8500, https:// or unix:///"
                                                       : "write http://" + text + " or https://" + text);
    return;
  }
  if (text.find_first_of(" ?#@\t\r\n") != std::string::npos) {
    decoder.error(value, "an address has no query, user or space", "a token belongs in token_file");
    return;
  }
  while (text.ends_with('/')) text.pop_back();
  static_cast<ConsulSettings*>(target)->address = std::move(text);
}

template <typename Object, std::string Object::* Member>
void decode_file(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<Object*>(target)->*Member = std::move(text);
}

void decode_match(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (text.empty() || text.find_first_not_of("*?") == std::string::npos) {
    decoder.error(value, "matches whatever is there", "name services or a part of their names, or write all");
    return;
  }
  static_cast<ConsulRule*>(target)->match = std::move(text);
}

void decode_rule_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (const auto ip = base::IpAddress::parse(text); !text.empty() && (!ip || ip->is_unspecified())) {
    decoder.error(value, "'" + text + "' is not an IP address",
                  "write it as 240.64.0.10; the port is a key of its own");
    return;
  }
  static_cast<ConsulRule*>(target)->address = std::move(text);
}

void decode_rule_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool good = text.size() <= 253 && std::ranges::all_of(text, [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || std::string_view("./_-").contains(c);
                    });
  if (!good) {
    decoder.error(value, "a name is 1 to 253 of a-z 0-9 . - / _");
    return;
  }
  static_cast<ConsulRule*>(target)->name = std::move(text);
}

const ConsulRule kFreshRule{};
const ConsulTls kFreshTls{};
const ConsulSettings kFreshConsul{};

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  if (!decoder.is_list(value)) return;
  std::vector<ConsulRule> rules;
  decoder.each(value, [&](const Value& item) {
    ConsulRule rule;
    if (item.is_scalar() && item.kind != Value::Kind::kNull) {
      const Key* const match = kConsulRuleTable.find("match");
      match->decode(decoder, *match, item, &rule);
    } else {
      decoder.table(kConsulRuleTable, item, &rule);
      for (const std::string_view only_one : {"name", "address"}) {
        const Value* const written = item.find(only_one);
        if (written == nullptr || rule.match.empty() || rule.is_exact()) continue;
        decoder.under(only_one, [&] {
          decoder.error_at(written->key_place, "is for one service, and '" + rule.match + "' can match several",
                           "put the service's name into match");
        });
      }
    }
    rules.push_back(std::move(rule));
  });
  static_cast<ConsulSettings*>(target)->services = std::move(rules);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  Value list = Value::list();
  for (const ConsulRule& rule : static_cast<const ConsulSettings*>(target)->services) {
    list.items.push_back(rule == ConsulRule{.match = rule.match}
                             ? Value::string(rule.match)
                             : encode(kConsulRuleTable, &rule, secrets, Encode::kChanged));
  }
  return list;
}

constexpr Key kRuleKeys[] = {
    required(with_decode(key<&ConsulRule::match>("match", "Name of a service, a pattern with * and ?, or all."),
                         decode_match)),
    key<&ConsulRule::tags>("tags", "Only instances with all of these tags."),
    key<&ConsulRule::without_tags>("without_tags", "Only instances with none of these tags."),
    with_decode(key<&ConsulRule::name>("name", "Its name in the mesh; empty is as in Consul, in lower case."),
                decode_rule_name),
    with_decode(
        key<&ConsulRule::address>("address", "IP address of its frontend; empty is one of the agent's range, by name."),
        decode_rule_address),
    key<&ConsulRule::port>("port", "Port of its frontend; 0 is the one that most instances have.", {0, 65535}),
    key<&ConsulRule::protocol>("protocol", "tcp or udp."),
};

constexpr Key kTlsKeys[] = {
    with_decode(key<&ConsulTls::ca_file>("ca_file", "PEM file of trusted issuers; empty is the system's."),
                decode_file<ConsulTls, &ConsulTls::ca_file>),
    with_decode(key<&ConsulTls::certificate>("certificate", "PEM file of the client's certificate, then its chain."),
                decode_file<ConsulTls, &ConsulTls::certificate>),
    with_decode(key<&ConsulTls::key>("key", "PEM file of its private key, without passphrase."),
                decode_file<ConsulTls, &ConsulTls::key>),
    key<&ConsulTls::server_name>("server_name", "Name to ask for and to verify; empty is the host of address."),
    key<&ConsulTls::verify>("verify", "Verify the certificate's chain, name and expiry."),
};
const Table kTlsTable{.name = "tls", .keys = kTlsKeys, .defaults = &kFreshTls};

constexpr Key kConsulKeys[] = {
    with_decode(key<&ConsulSettings::address>("address", "http://HOST:PORT, https://HOST:PORT or unix:///PATH."),
                decode_address),
    with_decode(key<&ConsulSettings::token_file>("token_file", "File with the ACL token; read again for each request."),
                decode_file<ConsulSettings, &ConsulSettings::token_file>),
    key<&ConsulSettings::datacenter>("datacenter", "Whose services; empty is that of the agent that is asked."),
    key<&ConsulSettings::name_space>("namespace", "Consul Enterprise; empty is that of the token."),
    key<&ConsulSettings::partition>("partition", "Consul Enterprise; empty is that of the agent that is asked."),
    key<&ConsulSettings::peer>("peer", "Services that a peered cluster exports, instead of the own ones."),
    table_key<&ConsulSettings::tls>("tls", "For https; the files are read again for each request.", kTlsTable),
    key<&ConsulSettings::consistency>("consistency",
                                      "stale lets any server answer, default the leader, consistent the leader after "
                                      "it asked the others."),
    key<&ConsulSettings::max_contact_age>(
        "max_contact_age", "An answer is refused from a server that heard nothing of its leader for longer.",
        between(1s, 24h)),
    key<&ConsulSettings::wait>("wait", "How long a query waits for a change; a server that hangs shows after it.",
                               between(1s, 10min)),
    key<&ConsulSettings::timeout>("timeout", "Longest time without a byte of an answer, beyond wait.",
                                  between(100ms, 5min)),
    key<&ConsulSettings::churn_interval>("churn_interval",
                                         "After two quick changes of one thing, it is read again no sooner than this.",
                                         between(0s, 5min)),
    key<&ConsulSettings::max_connections>(
        "max_connections", "Connections to Consul at one time; its own limit is 200 for all clients of one address.",
        {4, 1000}),
    key<&ConsulSettings::tagged_address>(
        "tagged_address", "Use this tagged address of instances that have it, as wan or lan_ipv6; empty is none."),
    {.name = "services",
     .doc = "What becomes a service of the mesh: names, patterns or rules; the first that matches counts.",
     .schema = R"({"type":"array","items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/consul_rule"}]}})",
     .decode = decode_rules,
     .encode = encode_rules},
};

}  // namespace

const Table kConsulRuleTable{.name = "a rule", .keys = kRuleKeys, .defaults = &kFreshRule};
const Table kConsulTable{.name = "consul", .keys = kConsulKeys, .defaults = &kFreshConsul};

bool ConsulRule::is_exact() const { return match != kConsulAll && match.find_first_of("*?") == std::string::npos; }

}  // namespace mesh::discovery
