// SPDX-License-Identifier: Apache-2.0
#include "discovery/source_keys.hpp"

#include <algorithm>
#include <array>

#include "base/duration.hpp"
#include "discovery/rule_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<model::Combine> {
  static constexpr std::array<std::string_view, 3> kNames = {"ignore", "union", "failover"};
  static constexpr std::array<model::Combine, 3> kValues = {model::Combine::kIgnore, model::Combine::kUnion,
                                                            model::Combine::kFailover};
};

namespace {

constexpr std::size_t kMaxName = 63;
constexpr std::size_t kMaxSources = 64;
constexpr std::array<std::string_view, 4> kOwnNames = {"file", "canary", "names", "meshd"};  // the agent's own
constexpr auto kMaxStaleMin = 10s;
constexpr auto kMaxStaleMax = 30 * 24h;

/// What decoder.context is while a source is decoded.
struct SourceDecoding {
  ServiceDecoder* services;
  bool own_probe = false;
};

const SourceSpec kFreshSource{};

const std::vector<std::string_view>& type_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const RegistryType* type : registry_types()) all.push_back(type->name);
    return all;
  }();
  return names;
}

const RegistryType* find_type(std::string_view name) {
  const auto types = registry_types();
  const auto found = std::ranges::find(types, name, [](const RegistryType* type) { return type->name; });
  return found == types.end() ? nullptr : *found;
}

void decode_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool good = !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!good) {
    decoder.error(value, "a source's name is 1 to 63 of a-z 0-9 -");
  } else if (std::ranges::find(kOwnNames, text) != kOwnNames.end()) {
    decoder.error(value, "'" + text + "' is the name of a source of the agent itself", "choose another");
  } else {
    static_cast<SourceSpec*>(target)->name = std::move(text);
  }
}

void decode_max_stale(Decoder& decoder, const Key&, const Value& value, void* target) {
  auto& max_stale = static_cast<SourceSpec*>(target)->max_stale;
  if (value.is_scalar() && value.text == "never") {
    max_stale.reset();
    return;
  }
  const Key range{.min = std::chrono::nanoseconds(kMaxStaleMin).count(),
                  .max = std::chrono::nanoseconds(kMaxStaleMax).count(),
                  .unit = std::chrono::nanoseconds(1s).count()};
  std::chrono::nanoseconds duration{};
  if (decoder.duration(range, value, duration)) max_stale = std::chrono::duration_cast<std::chrono::seconds>(duration);
}

Value encode_max_stale(const Key&, const void* target, Secrets) {
  const auto& max_stale = static_cast<const SourceSpec*>(target)->max_stale;
  return max_stale ? keys_detail::encode_duration(*max_stale) : Value::string("never");
}

constexpr Key kMinEndpointsKeys[] = {
    rule_match_key<MinEndpoints>("Name of a service in the mesh, a pattern with * and ?, or all."),
    key<&MinEndpoints::count>("count", "Endpoints that an answer must leave it.", {0, 65535}),
};
const MinEndpoints kFreshMinEndpoints{};
const Table kMinEndpointsTable{.name = "min_endpoints", .keys = kMinEndpointsKeys, .defaults = &kFreshMinEndpoints};

/// A number for all services, or a list of numbers for some.
void decode_min_endpoints(Decoder& decoder, const Key& key, const Value& value, void* target) {
  auto& min_endpoints = static_cast<SourceSpec*>(target)->min_endpoints;
  if (!value.is_scalar()) return decode_rule_list(decoder, value, kMinEndpointsTable, min_endpoints);
  std::int64_t count = 0;
  if (!decoder.integer(key, value, count)) return;
  min_endpoints.clear();
  if (count > 0) min_endpoints.push_back({std::string(kMatchAll), static_cast<std::uint32_t>(count)});
}

Value encode_min_endpoints(const Key&, const void* target, Secrets secrets) {
  const auto& min_endpoints = static_cast<const SourceSpec*>(target)->min_endpoints;
  return min_endpoints.empty() ? Value::number(0) : encode_rule_list(min_endpoints, kMinEndpointsTable, secrets);
}

void decode_own_defaults(Decoder& decoder, const Key&, const Value& value, void* target) {
  auto& decoding = *static_cast<SourceDecoding*>(decoder.context);
  decoding.own_probe = value.find("probe") != nullptr;
  decoder.context = decoding.services;
  decoder.table(kPolicyTable, value, &static_cast<SourceSpec*>(target)->policy);
  decoder.context = &decoding;
}

Value encode_own_defaults(const Key&, const void* target, Secrets secrets) {
  return encode(kPolicyTable, &static_cast<const SourceSpec*>(target)->policy, secrets);
}

void decode_settings(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const RegistryType* const kind = find_type(key.name);
  auto& source = *static_cast<SourceSpec*>(target);
  if (source.kind != kind) {
    decoder.error_at(value.key_place, "is for sources of type " + std::string(key.name), "remove it, or correct type");
    return;
  }
  const auto settings = kind->make_settings();
  decoder.table(*kind->table, value, settings.get());
  kind->finish(decoder, value, settings.get());
  source.settings = settings;
}

Value encode_settings(const Key& key, const void* target, Secrets secrets) {
  const auto& source = *static_cast<const SourceSpec*>(target);
  return source.kind == find_type(key.name) && source.settings ? encode(*key.table, source.settings.get(), secrets)
                                                               : Value{};
}

std::vector<Key> make_keys() {
  Key type = required(key<&SourceSpec::type>("type", "What kind of registry it is."));
  type.type = KeyType::kChoice;
  type.names = type_names();
  type.decode = [](Decoder&, const Key&, const Value&, void*) {};  // first of all: see decode_source()
  std::vector<Key> keys = {
      with_decode(key<&SourceSpec::name>("name", "How it is called in status and metrics; its type unless given."),
                  decode_name),
      type,
      {.name = "max_stale",
       .doc = "When the registry has not answered for so long, only endpoints whose probe succeeds are used; never is "
              "for ever all.",
       .schema = R"({"oneOf":[{"const":"never"},{"type":"string","pattern":"^([0-9]+(s|m|h|d))+$"}]})",
       .decode = decode_max_stale,
       .encode = encode_max_stale},
      {.name = "min_endpoints",
       .doc = "An answer that leaves a service fewer endpoints than this, and fewer than it had, is not believed: for "
              "all services, or a list of match and count.",
       .max = 65535,
       .schema = R"({"oneOf":[{"type":"integer","minimum":0,"maximum":65535},{"type":"array","items":{"oneOf":)"
                 R"([{"type":"string"},{"type":"object","additionalProperties":false,"required":["match"],)"
                 R"("properties":{"match":{"type":"string"},"count":{"type":"integer","minimum":0,)"
                 R"("maximum":65535}}}]}}]})",
       .decode = decode_min_endpoints,
       .encode = encode_min_endpoints},
      key<&SourceSpec::combine>("combine",
                                "What becomes of its endpoints for a service that an earlier source has: ignored, "
                                "added, or added as tiers that are used when the earlier ones have too little."),
      {.name = "defaults",
       .doc = "What its services start from, over the defaults of all.",
       .type = KeyType::kTable,
       .table = &kPolicyTable,
       .decode = decode_own_defaults,
       .encode = encode_own_defaults},
  };
  for (const RegistryType* one : registry_types()) {
    keys.push_back({.name = one->name,
                    .doc = one->doc,
                    .type = KeyType::kTable,
                    .table = one->table,
                    .decode = decode_settings,
                    .encode = encode_settings});
  }
  return keys;
}

void decode_source(Decoder& decoder, const Value& value, SourceSpec& source) {
  if (!decoder.is_map(value)) return;
  // The type first, wherever it stands: it says what the other keys may be.
  if (const Value* const type = value.find("type"); type != nullptr) {
    decoder.under("type", [&] {
      std::string_view name;
      const Key choice{.names = type_names()};
      if (decoder.choice(choice, *type, name)) source.kind = find_type(name);
    });
  }
  if (source.kind != nullptr) source.type = source.name = source.kind->name;
  ServiceDecoder services(decoder, source.policy, ServiceDecoder::FileKey::kRefused, "");
  SourceDecoding decoding{&services};
  void* const outer_context = std::exchange(decoder.context, &decoding);
  if (source.kind != nullptr || value.find("type") == nullptr) decoder.table(source_table(), value, &source);
  decoder.context = outer_context;
  if (source.kind == nullptr) return;
  if (source.kind->knows_readiness && !decoding.own_probe) source.policy.probe = nullptr;
  if (value.find(source.kind->name) == nullptr) {
    const auto settings = source.kind->make_settings();
    decoder.under(source.kind->name, [&] {
      Value nothing;
      nothing.place = value.place;
      decoder.table(*source.kind->table, nothing, settings.get());
      source.kind->finish(decoder, nothing, settings.get());
    });
    source.settings = settings;
  }
}

}  // namespace

const Table& source_table() {
  static const std::vector<Key> keys = make_keys();
  static const Table table{.name = "a source", .keys = keys, .defaults = &kFreshSource};
  return table;
}

void decode_sources(Decoder& decoder, const Value& list, const ServicePolicy& defaults,
                    std::vector<SourceSpec>& sources) {
  if (list.kind == Value::Kind::kNull || !decoder.is_list(list)) return;
  decoder.each(list, [&](const Value& value) {
    SourceSpec source;
    source.policy = defaults;
    const std::size_t errors_before = decoder.error_count();
    decode_source(decoder, value, source);
    if (decoder.error_count() > errors_before) return;
    if (std::ranges::find(sources, source.name, &SourceSpec::name) != sources.end()) {
      const Value* const name = value.find("name");
      decoder.error(name != nullptr ? *name : value, "a source with the name '" + source.name + "' stands already",
                    "give each a name of its own");
    } else if (sources.size() >= kMaxSources) {
      decoder.error(value, "more than " + std::to_string(kMaxSources) + " sources");
    } else {
      sources.push_back(std::move(source));
    }
  });
}

Value encode_source(const SourceSpec& source, Secrets secrets) {
  Value map = encode(source_table(), &source, secrets);
  std::erase_if(map.items, [](const Value& item) { return item.kind == Value::Kind::kNull; });
  return map;
}

std::string SourceSpec::fingerprint() const {
  Value map = encode_source(*this, Secrets::kReveal);
  std::erase_if(map.items, [](const Value& item) { return item.key == "combine"; });
  std::string text;
  write_json(map, text, JsonStyle::kCompact);
  return text;
}

}  // namespace mesh::discovery
