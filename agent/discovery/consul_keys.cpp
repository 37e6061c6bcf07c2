// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_keys.hpp"

#include <array>

#include "discovery/service_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<ConsulConsistency> {
  static constexpr std::array<std::string_view, 3> kNames = {"stale", "default", "consistent"};
  static constexpr std::array<ConsulConsistency, 3> kValues = {ConsulConsistency::kStale, ConsulConsistency::kDefault,
                                                               ConsulConsistency::kConsistent};
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

const ConsulRule kFreshRule{};
const ConsulSettings kFreshConsul{};

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_rule_list(decoder, value, kConsulRuleTable, static_cast<ConsulSettings*>(target)->services);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  return encode_rule_list(static_cast<const ConsulSettings*>(target)->services, kConsulRuleTable, secrets);
}

constexpr Key kRuleKeys[] = {
    rule_match_key<ConsulRule>("Name of a service, a pattern with * and ?, or all."),
    key<&ConsulRule::tags>("tags", "Only instances with all of these tags."),
    key<&ConsulRule::without_tags>("without_tags", "Only instances with none of these tags."),
    rule_name_key<ConsulRule>("Its name in the mesh; empty is as in Consul, in lower case."),
    rule_address_key<ConsulRule>(),
    key<&ConsulRule::port>("port", "Port of its frontend; 0 is the one that most instances have.", {0, 65535}),
    key<&ConsulRule::protocol>("protocol", "tcp or udp."),
};

constexpr Key kConsulKeys[] = {
    with_decode(key<&ConsulSettings::address>("address", "http://HOST:PORT, https://HOST:PORT or unix:///PATH."),
                decode_address),
    path_key<&ConsulSettings::token_file>("token_file", "File with the ACL token; read again for each request."),
    key<&ConsulSettings::datacenter>("datacenter", "Whose services; empty is that of the agent that is asked."),
    key<&ConsulSettings::name_space>("namespace", "Consul Enterprise; empty is that of the token."),
    key<&ConsulSettings::partition>("partition", "Consul Enterprise; empty is that of the agent that is asked."),
    key<&ConsulSettings::peer>("peer", "Services that a peered cluster exports, instead of the own ones."),
    table_key<&ConsulSettings::tls>("tls", "For https; the files are read again for each request.", kTlsFilesTable),
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
     .schema =
         R"({"type":["array","null"],"items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/consul_rule"}]}})",
     .decode = decode_rules,
     .encode = encode_rules},
};

}  // namespace

const Table kConsulRuleTable{.name = "a rule", .keys = kRuleKeys, .defaults = &kFreshRule};
const Table kConsulTable{.name = "consul", .keys = kConsulKeys, .defaults = &kFreshConsul};

}  // namespace mesh::discovery
