// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMaxMetadata = 64;

const XdsRule kFreshRule{};
const XdsSettings kFreshXds{};

void decode_server(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto is = [&](std::string_view scheme) { return text.starts_with(scheme) && text.size() > scheme.size(); };
  const bool is_unix = is("unix:///");
  if (!is("grpc://") && !is("grpcs://") && !is_unix) {
    decoder.error(value, "'" + text + "' is not the address of an xDS server",
                  "write it as grpc://control-plane:18000, grpcs:// for TLS, or unix:///run/control-plane.sock");
    return;
  }
  const std::string_view rest = std::string_view(text).substr(text.find("://") + 3);
  if (text.find_first_of(" ?#@\t\r\n") != std::string::npos || (!is_unix && rest.contains('/'))) {
    decoder.error(value, "an address has no path, query, user or space", "a token belongs in token_file");
    return;
  }
  const auto colon = rest.rfind(':');
  const bool has_port = colon != std::string_view::npos && colon + 1 < rest.size() && colon > 0 &&
                        rest.find_first_not_of("0123456789", colon + 1) == std::string_view::npos;
  if (!is_unix && !has_port) {
    decoder.error(value, "'" + text + "' has no port", "write it as grpc://control-plane:18000");
    return;
  }
  static_cast<XdsSettings*>(target)->server = std::move(text);
}

void decode_metadata(Decoder& decoder, const Key& key, const Value& value, void* target) {
  if (!decoder.is_map(value)) return;
  if (value.items.size() > kMaxMetadata) {
    decoder.error(value, "more than " + std::to_string(kMaxMetadata) + " entries");
    return;
  }
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const Value& item : value.items) {
    decoder.under(item.key, [&] {
      std::string text;
      if (decoder.string(key, item, text)) metadata.emplace_back(item.key, std::move(text));
    });
  }
  static_cast<XdsSettings*>(target)->metadata = std::move(metadata);
}

Value encode_metadata(const Key&, const void* target, Secrets) {
  Value map = Value::map();
  for (const auto& [key, text] : static_cast<const XdsSettings*>(target)->metadata) map.add(key, Value::string(text));
  return map;
}

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_rule_list(decoder, value, kXdsRuleTable, static_cast<XdsSettings*>(target)->services);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  return encode_rule_list(static_cast<const XdsSettings*>(target)->services, kXdsRuleTable, secrets);
}

constexpr Key kRuleKeys[] = {
    rule_match_key<XdsRule>("Name of a cluster, a pattern with * and ?, or all."),
    rule_name_key<XdsRule>("Its name in the mesh; empty is the cluster's in lower case; of Istio's names the host."),
    rule_address_key<XdsRule>(),
    key<&XdsRule::port>(
        "port", "Port of its frontend; 0 is that in Istio's name, else the one that most endpoints have.", {0, 65535}),
};

constexpr Key kXdsKeys[] = {
    with_decode(key<&XdsSettings::server>("server", "grpc://host:port, grpcs://host:port for TLS, or unix:///path."),
                decode_server),
    path_key<&XdsSettings::token_file>("token_file", "File with a bearer token; a change of it means a new stream."),
    table_key<&XdsSettings::tls>("tls", "For grpcs; a change of the files means a new stream.", kTlsFilesTable),
    key<&XdsSettings::node_id>("node_id", "Of the node; empty is `agent.node`, else the name of the host."),
    key<&XdsSettings::node_cluster>("node_cluster", "Of the node."),
    {.name = "metadata",
     .doc = "Of the node: names and texts.",
     .schema = R"({"type":"object","maxProperties":64,"additionalProperties":{"type":"string"}})",
     .decode = decode_metadata,
     .encode = encode_metadata},
    key<&XdsSettings::timeout>("timeout",
                               "Longest wait for the first answer of a stream, and for the endpoints of a cluster.",
                               between(1s, 5min)),
    key<&XdsSettings::keepalive>(
        "keepalive", "Between two pings of the connection; many servers hang up on more than one in 5 minutes.",
        between(10s, 1h)),
    {.name = "services",
     .doc = "What becomes a service of the mesh: names, patterns or rules; the first that matches counts.",
     .schema = R"({"type":["array","null"],"items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/xds_rule"}]}})",
     .decode = decode_rules,
     .encode = encode_rules},
};

}  // namespace

const Table kXdsRuleTable{.name = "a rule", .keys = kRuleKeys, .defaults = &kFreshRule};
const Table kXdsTable{.name = "xds", .keys = kXdsKeys, .defaults = &kFreshXds};

std::string XdsSettings::target() const {
  const std::string rest = server.substr(server.find("://") + 3);
  return server.starts_with("unix:") ? "unix:" + rest : rest;
}

void finish_xds_settings(Decoder& decoder, const Value& value, XdsSettings& settings) {
  if (settings.services.empty()) {
    decoder.warn(value, "no cluster is chosen, so nothing is taken from it", "add services: names, patterns, or all");
  }
  if (const Value* const token = value.find("token_file");
      token != nullptr && !settings.token_file.empty() && settings.server.starts_with("grpc://")) {
    decoder.warn(*token, "without TLS whoever is in between reads the token", "use grpcs:// or unix://");
  }
  if (settings.tls.certificate.empty() != settings.tls.key.empty()) {
    decoder.error(*value.find("tls"), "a client's certificate needs its key",
                  settings.tls.key.empty() ? "add key" : "add certificate");
  }
}

}  // namespace mesh::discovery
