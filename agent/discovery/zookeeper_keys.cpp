// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_keys.hpp"

#include <algorithm>
#include <array>

#include "base/address.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<ZookeeperLayout> {
  static constexpr std::array<std::string_view, 4> kNames = {"curator", "dubbo", "serverset", "nerve"};
  static constexpr std::array<ZookeeperLayout, 4> kValues = {ZookeeperLayout::kCurator, ZookeeperLayout::kDubbo,
                                                             ZookeeperLayout::kServerSet, ZookeeperLayout::kNerve};
};

namespace {

constexpr std::string_view kDefaultPort = "2181";
constexpr std::size_t kMaxServers = 16;

const ZookeeperSettings kFreshZookeeper{};
const ZookeeperRule kFreshRule{};

/// Absolute, without empty or dotted parts and without a slash at its end: what ZooKeeper takes as a path.
bool is_node_path(std::string_view text) {
  if (text == "/") return true;
  if (!text.starts_with('/') || text.ends_with('/')) return false;
  for (std::size_t begin = 1; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

template <typename Object, std::string Object::* Member>
void decode_path(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !is_node_path(text)) {
    decoder.error(value, "'" + text + "' is no path of ZooKeeper", "write it as /services");
    return;
  }
  static_cast<Object*>(target)->*Member = std::move(text);
}

void decode_below(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && (!is_node_path("/" + text) || text == "/")) {
    decoder.error(value, "'" + text + "' is no path below a service", "write it as services");
    return;
  }
  static_cast<ZookeeperRule*>(target)->below = std::move(text);
}

void decode_servers(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  bool good = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      if (const auto server = parse_zookeeper_server(texts[i]); !server) {
        good = decoder.error(item, server.error().message, server.error().remedy);
      }
    });
  }
  if (texts.empty() || texts.size() > kMaxServers) {
    good = decoder.error(value, "1 to " + std::to_string(kMaxServers) + " servers", "name those of one ensemble");
  }
  if (good) static_cast<ZookeeperSettings*>(target)->servers = std::move(texts);
}

void decode_match(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!rule_keys_detail::read_match(decoder, key, value, ZookeeperRule::kMany, text)) return;
  if (text == "." || text == ".." || text.contains('/')) {
    decoder.error(value, "'" + text + "' is no name of a node", "the folder belongs in path");
    return;
  }
  static_cast<ZookeeperRule*>(target)->match = std::move(text);
}

void decode_labels(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].find('=') != std::string::npos && !texts[i].starts_with('=')) continue;
    decoder.element(value.items[i], i, [&](const Value& item) {
      decoder.error(item, "'" + texts[i] + "' is no label", "write it as version=v1");
    });
  }
  static_cast<ZookeeperRule*>(target)->labels = std::move(texts);
}

void check_rule(Decoder& decoder, const Value& item, const ZookeeperRule& rule) {
  if (rule.path.empty() && (rule.layout == ZookeeperLayout::kServerSet || rule.layout == ZookeeperLayout::kNerve)) {
    decoder.error(item, "the key 'path' is missing",
                  "this layout has no usual place: write the folder of the services");
  }
  if (!rule.endpoint.empty() && rule.layout != ZookeeperLayout::kServerSet) {
    decoder.error(item, "'endpoint' is for the layout serverset", "remove it, or add layout: serverset");
  }
}

void decode_rules(Decoder& decoder, const Key&, const Value& value, void* target) {
  decode_rule_list(decoder, value, kZookeeperRuleTable, static_cast<ZookeeperSettings*>(target)->services, check_rule);
}

Value encode_rules(const Key&, const void* target, Secrets secrets) {
  return encode_rule_list(static_cast<const ZookeeperSettings*>(target)->services, kZookeeperRuleTable, secrets);
}

constexpr Key kRuleKeys[] = {
    required(with_decode(key<&ZookeeperRule::match>("match", "Name of a service, a pattern with * and ?, or all."),
                         decode_match)),
    key<&ZookeeperRule::layout>("layout", "How its nodes are laid out and what they hold."),
    with_decode(key<&ZookeeperRule::path>(
                    "path", "Folder of the services; empty is /services for curator and /dubbo for dubbo."),
                decode_path<ZookeeperRule, &ZookeeperRule::path>),
    with_decode(key<&ZookeeperRule::below>(
                    "below", "Folder of the instances below that of the service; of dubbo always providers."),
                decode_below),
    key<&ZookeeperRule::endpoint>("endpoint",
                                  "Of a serverset: its additional endpoint of this name; empty is the service's own."),
    {.name = "labels",
     .doc = "Only instances with all of these, as version=v1: of curator's payload, or parameters of dubbo.",
     .type = KeyType::kStrings,
     .decode = decode_labels,
     .encode = [](const Key&, const void* target,
                  Secrets) { return keys_detail::encode_strings(static_cast<const ZookeeperRule*>(target)->labels); }},
    rule_name_key<ZookeeperRule>("Its name in the mesh; empty is as in ZooKeeper, in lower case."),
    rule_address_key<ZookeeperRule>(),
    key<&ZookeeperRule::port>("port", "Port of its frontend; 0 is the one that most instances have.", {0, 65535}),
    key<&ZookeeperRule::protocol>("protocol", "tcp or udp."),
};

constexpr Key kZookeeperKeys[] = {
    {.name = "servers",
     .doc = "HOST or HOST:PORT of the servers of one ensemble; asked in an order of chance.",
     .type = KeyType::kStrings,
     .decode = decode_servers,
     .encode =
         [](const Key&, const void* target, Secrets) {
           return keys_detail::encode_strings(static_cast<const ZookeeperSettings*>(target)->servers);
         }},
    with_decode(key<&ZookeeperSettings::chroot>("chroot", "Is put before every path, as /prod."),
                decode_path<ZookeeperSettings, &ZookeeperSettings::chroot>),
    path_key<&ZookeeperSettings::auth_file>(
        "auth_file", "File with user:password for the scheme digest; read again for each connection."),
    key<&ZookeeperSettings::session_timeout>(
        "session_timeout", "Asked for; a server that says nothing for two thirds of it is left.", between(1s, 10min)),
    key<&ZookeeperSettings::jute_maxbuffer>("jute_maxbuffer",
                                            "Largest answer, in bytes; the list of a folder's children is one answer.",
                                            {64 << 10, 64 << 20}),
    key<&ZookeeperSettings::max_reads>("max_reads", "Reads in flight at one time.", {1, 10'000}),
    {.name = "services",
     .doc = "What becomes a service of the mesh: names, patterns or rules; the first that matches counts.",
     .schema =
         R"({"type":["array","null"],"items":{"oneOf":[{"type":"string"},{"$ref":"#/definitions/zookeeper_service"}]}})",
     .decode = decode_rules,
     .encode = encode_rules},
};

}  // namespace

const Table kZookeeperRuleTable{.name = "a service of zookeeper", .keys = kRuleKeys, .defaults = &kFreshRule};
const Table kZookeeperTable{.name = "zookeeper", .keys = kZookeeperKeys, .defaults = &kFreshZookeeper};

std::string ZookeeperRule::base() const {
  if (!path.empty()) return path == "/" ? std::string() : path;
  return layout == ZookeeperLayout::kDubbo ? "/dubbo" : "/services";
}

std::string ZookeeperRule::folder(std::string_view service) const {
  const std::string under = layout == ZookeeperLayout::kDubbo ? "providers" : below;
  return base() + "/" + std::string(service) + (under.empty() ? "" : "/" + under);
}

base::Result<std::pair<std::string, std::string>> parse_zookeeper_server(const std::string& text) {
  if (const auto ip = base::IpAddress::parse(text)) return std::pair{text, std::string(kDefaultPort)};
  if (const auto address = base::SocketAddress::parse(text)) {
    return std::pair{address->ip.to_string(), std::to_string(address->port)};
  }
  const std::size_t colon = std::min(text.find(':'), text.size());
  std::string port = colon == text.size() ? std::string(kDefaultPort) : text.substr(colon + 1);
  const bool name = colon > 0 && std::ranges::all_of(text.substr(0, colon), [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                             std::string_view(".-_").contains(c);
                    });
  const bool number = !port.empty() && port.size() <= 5 &&
                      std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; }) && std::stoul(port) >= 1 &&
                      std::stoul(port) <= 65535;
  if (name && number) return std::pair{text.substr(0, colon), std::move(port)};
  return base::fail(base::ErrorKind::kInvalid, "'" + text + "' is not a server of ZooKeeper",
                    "write it as zk1.example.com:2181 or \"[fd00::1]:2181\"; a chroot is a key of its own");
}

void finish_zookeeper_settings(Decoder& decoder, const Value& value, ZookeeperSettings& settings) {
  const auto& rules = settings.services;
  for (auto rule = rules.begin(); rule != rules.end(); ++rule) {
    const auto all = std::find_if(rules.begin(), rule, [&](const ZookeeperRule& earlier) {
      return earlier.match == kMatchAll && earlier.base() == rule->base();
    });
    if (all == rule) continue;
    decoder.error(value,
                  "services: '" + rule->match + "' of " + rule->base() + " stands after 'all' of the same folder",
                  "put it before, because the first rule that matches counts");
  }
}

}  // namespace mesh::discovery
