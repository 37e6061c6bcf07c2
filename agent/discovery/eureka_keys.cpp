// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_keys.hpp"

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

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_rule_list(decoder, value, kEurekaRuleTable, static_cast<EurekaSettings*>(target)->services);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  return encode_rule_list(static_cast<const EurekaSettings*>(target)->services, kEurekaRuleTable, secrets);
}

constexpr Key kRuleKeys[] = {
    rule_match_key<EurekaRule>("Name of an application, a pattern with * and ?, or all."),
    rule_name_key<EurekaRule>("Its name in the mesh; empty is as in Eureka, in lower case."),
    rule_address_key<EurekaRule>(),
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
    path_key<&EurekaSettings::credentials_file>(
        "credentials_file", "File with user:password for basic authentication; read for each request."),
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

void finish_eureka_settings(Decoder& decoder, const Value& value, EurekaSettings& settings) {
  if (settings.services.empty()) {
    decoder.warn(value, "no application is chosen, so nothing is taken from it",
                 "add services: names, patterns, or all");
  }
}

}  // namespace mesh::discovery
