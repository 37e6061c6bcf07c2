// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_keys.hpp"

#include <algorithm>

#include "discovery/service_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMaxServers = 16;

const EurekaRule kFreshRule{};
const EurekaSettings kFreshEureka{};

/// Says what is wrong with a server's address, if anything is; takes slashes off its end.
bool check_server(Decoder& decoder, const Value& value, std::string& text) {
  const auto is = [&](std::string_view scheme) { return text.starts_with(scheme) && text.size() > scheme.size(); };
  if (!is("http://") && !is("https://")) {
    return decoder.error(value, "'" + text + "' is not the address of a Eureka server",
                         "write it with its path, as http://eureka:8761/eureka");
  }
  if (text.contains('@')) {
    return decoder.error(value, "an address has no user and password", "write them into credentials_file");
  }
  if (text.find_first_of(" ?#\t\r\n") != std::string::npos) {
    return decoder.error(value, "an address has no query and no space", "write it as http://eureka:8761/eureka");
  }
  while (text.ends_with('/')) text.pop_back();
  return true;
}

void decode_servers(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  bool good = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    decoder.element(value.items[i], i,
                    [&](const Value& item) { good = check_server(decoder, item, texts[i]) && good; });
  }
  if (texts.empty()) good = decoder.error(value, "names no server", "write one, as http://eureka:8761/eureka");
  if (texts.size() > kMaxServers) good = decoder.error(value, "more than " + std::to_string(kMaxServers) + " servers");
  if (good) static_cast<EurekaSettings*>(target)->servers = std::move(texts);
}

void decode_credentials_file(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<EurekaSettings*>(target)->credentials_file = std::move(text);
}

void decode_match(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (text.empty() || text.find_first_not_of("*?") == std::string::npos) {
    decoder.error(value, "matches whatever is there", "name applications or a part of their names, or write all");
    return;
  }
  static_cast<EurekaRule*>(target)->match = std::move(text);
}

void decode_rule_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (const auto ip = base::IpAddress::parse(text); !text.empty() && (!ip || ip->is_unspecified())) {
    decoder.error(value, "'" + text + "' is not an IP address",
                  "write it as 240.64.0.10; the port is a key of its own");
    return;
  }
  static_cast<EurekaRule*>(target)->address = std::move(text);
}

void decode_rule_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !is_service_name(text)) {
    decoder.error(value, "a name is 1 to 253 of a-z 0-9 . - / _");
    return;
  }
  static_cast<EurekaRule*>(target)->name = std::move(text);
}

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  if (value.kind == Value::Kind::kNull || !decoder.is_list(value)) return;
  std::vector<EurekaRule> rules;
  decoder.each(value, [&](const Value& item) {
    EurekaRule rule;
    if (item.is_scalar() && item.kind != Value::Kind::kNull) {
      const Key* const match = kEurekaRuleTable.find("match");
      match->decode(decoder, *match, item, &rule);
    } else {
      decoder.table(kEurekaRuleTable, item, &rule);
      for (const std::string_view only_one : {"name", "address"}) {
        const Value* const written = item.find(only_one);
        if (written == nullptr || rule.match.empty() || rule.is_exact()) continue;
        decoder.under(only_one, [&] {
          decoder.error_at(written->key_place, "is for one application, and '" + rule.match + "' can match several",
                           "put the application's name into match");
        });
      }
    }
    rules.push_back(std::move(rule));
  });
  static_cast<EurekaSettings*>(target)->services = std::move(rules);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  Value list = Value::list();
  for (const EurekaRule& rule : static_cast<const EurekaSettings*>(target)->services) {
    list.items.push_back(rule == EurekaRule{.match = rule.match}
                             ? Value::string(rule.match)
                             : encode(kEurekaRuleTable, &rule, secrets, Encode::kChanged));
  }
  return list;
}

constexpr Key kRuleKeys[] = {
    required(with_decode(key<&EurekaRule::match>("match", "Name of an application, a pattern with * and ?, or all."),
                         decode_match)),
    with_decode(key<&EurekaRule::name>("name", "Its name in the mesh; empty is as in Eureka, in lower case."),
                decode_rule_name),
    with_decode(
        key<&EurekaRule::address>("address", "IP address of its frontend; empty is one of the agent's range, by name."),
        decode_rule_address),
    key<&EurekaRule::port>("port", "Port of its frontend; 0 is the one that most instances have.", {0, 65535}),
    key<&EurekaRule::secure>("secure", "Connect to the securePort of instances instead of their port."),
};

constexpr Key kEurekaKeys[] = {
    {.name = "servers",
     .doc = "Addresses with their path, http or https; the next one is asked when one fails.",
     .type = KeyType::kStrings,
     .decode = decode_servers,
     .encode =
         [](const Key&, const void* target, Secrets) {
           return keys_detail::encode_strings(static_cast<const EurekaSettings*>(target)->servers);
         }},
    with_decode(key<&EurekaSettings::credentials_file>(
                    "credentials_file", "File with user:password for basic authentication; read for each request."),
                decode_credentials_file),
    table_key<&EurekaSettings::tls>("tls", "For https; the files are read again for each request.", kTlsFilesTable),
    key<&EurekaSettings::interval>("interval", "Between two questions, up to a tenth sooner or later.",
                                   between(1s, 10min)),
    key<&EurekaSettings::full_every>("full_every", "After so many deltas all is read anew; 0 is each time.", {0, 1000}),
    key<&EurekaSettings::timeout>("timeout", "Longest time without a byte of an answer.", between(100ms, 5min)),
    key<&EurekaSettings::default_probe>(
        "default_probe",
        "Services without a probe are probed by connecting while they are used: a registry that "
        "preserves itself keeps dead instances."),
    {.name = "services",
     .doc = "What becomes a service of the mesh: names, patterns or rules; the first that matches counts.",
     .schema =
         R"({"type":["array","null"],"items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/eureka_rule"}]}})",
     .decode = decode_rules,
     .encode = encode_rules},
};

}  // namespace

const Table kEurekaRuleTable{.name = "a rule", .keys = kRuleKeys, .defaults = &kFreshRule};
const Table kEurekaTable{.name = "eureka", .keys = kEurekaKeys, .defaults = &kFreshEureka};

bool EurekaRule::is_exact() const { return match != kEurekaAll && match.find_first_of("*?") == std::string::npos; }

void finish_eureka_settings(Decoder& decoder, const Value& value, EurekaSettings& settings) {
  if (settings.services.empty()) {
    decoder.warn(value, "no application is chosen, so nothing is taken from it",
                 "add services: names, patterns, or all");
  }
}

}  // namespace mesh::discovery
