// SPDX-License-Identifier: Apache-2.0
#include "discovery/probe_keys.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/random.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;
using model::ProbePolicy;

template <>
struct EnumNames<model::ProbeType> {
  static constexpr std::array<std::string_view, 4> kNames = {"tcp", "http", "https", "grpc"};
  static constexpr std::array<model::ProbeType, 4> kValues = {model::ProbeType::kTcp, model::ProbeType::kHttp,
                                                              model::ProbeType::kHttps, model::ProbeType::kGrpc};
};
template <>
struct EnumNames<model::ProbeWhen> {
  static constexpr std::array<std::string_view, 2> kNames = {"used", "always"};
  static constexpr std::array<model::ProbeWhen, 2> kValues = {model::ProbeWhen::kUsed, model::ProbeWhen::kAlways};
};

namespace {

constexpr std::size_t kMaxHeaders = 32;
constexpr std::size_t kMaxStatusRanges = 32;

bool is_token(std::string_view text) {
  constexpr std::string_view kSpecial = "!#$%&'*+-.^_`|~";  // RFC 9110 section 5.6.2
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kSpecial.contains(c);
  });
}

bool is_visible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string format_range(const std::pair<std::uint16_t, std::uint16_t>& range) {
  const std::string low = std::to_string(range.first);
  return range.first == range.second ? low : low + "-" + std::to_string(range.second);
}

void decode_method(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!is_token(text)) {
    decoder.error(value, "'" + text + "' is not an HTTP method", "write GET or HEAD");
    return;
  }
  static_cast<ProbePolicy*>(target)->method = std::move(text);
}

void decode_path(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.starts_with('/')) {
    decoder.error(value, "a path starts with /", "write /" + text);
  } else if (!is_visible(text)) {
    decoder.error(value, "a path has only visible ASCII characters", "percent-encode the others");
  } else {
    static_cast<ProbePolicy*>(target)->path = std::move(text);
  }
}

template <std::string ProbePolicy::* Member>
void decode_host(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!is_visible(text) || text.contains('/')) {
    decoder.error(value, "'" + text + "' is not a host name", "write it as orders.example.com");
    return;
  }
  static_cast<ProbePolicy*>(target)->*Member = std::move(text);
}

void decode_headers(Decoder& decoder, const Key& key, const Value& value, void* target) {
  if (!decoder.is_map(value)) return;
  if (value.items.size() > kMaxHeaders) {
    decoder.error(value, "more than " + std::to_string(kMaxHeaders) + " headers");
    return;
  }
  std::vector<std::pair<std::string, std::string>> headers;
  for (const Value& item : value.items) {
    decoder.under(item.key, [&] {
      std::string text;
      if (!is_token(item.key)) {
        decoder.error_at(item.key_place, "not a header name");
      } else if (decoder.string(key, item, text)) {
        headers.emplace_back(item.key, std::move(text));
      }
    });
  }
  static_cast<ProbePolicy*>(target)->headers = std::move(headers);
}

Value encode_headers(const Key&, const void* target, Secrets secrets) {
  Value map = Value::map();
  for (const auto& [name, text] : static_cast<const ProbePolicy*>(target)->headers) {
    map.add(name, Value::string(secrets == Secrets::kReveal ? text : "<hidden>"));
  }
  return map;
}

bool decode_status_range(Decoder& decoder, const Value& value, std::pair<std::uint16_t, std::uint16_t>& range) {
  const auto refuse = [&] {
    return decoder.error(value, "must be a status or a range of statuses from 100 to 599", "write 200 or \"200-299\"");
  };
  if (!value.is_scalar()) return refuse();
  const char* const end = value.text.data() + value.text.size();
  const auto low = std::from_chars(value.text.data(), end, range.first);
  if (low.ec != std::errc{}) return refuse();
  range.second = range.first;
  if (low.ptr != end) {
    if (*low.ptr != '-') return refuse();
    const auto high = std::from_chars(low.ptr + 1, end, range.second);
    if (high.ec != std::errc{} || high.ptr != end) return refuse();
  }
  return (range.first >= 100 && range.first <= range.second && range.second <= 599) || refuse();
}

void decode_expect(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::pair<std::uint16_t, std::uint16_t>> ranges;
  bool good = true;
  const auto read = [&](const Value& item) {
    good = decode_status_range(decoder, item, ranges.emplace_back()) && good;
  };
  if (value.is_scalar() && value.kind != Value::Kind::kNull) {
    read(value);
  } else {
    if (!decoder.is_list(value)) return;
    if (value.items.empty() || value.items.size() > kMaxStatusRanges) {
      decoder.error(value, "must have 1 to " + std::to_string(kMaxStatusRanges) + " elements");
      return;
    }
    decoder.each(value, read);
  }
  if (good) static_cast<ProbePolicy*>(target)->expect = std::move(ranges);
}

Value encode_expect(const Key&, const void* target, Secrets) {
  Value list = Value::list();
  for (const auto& range : static_cast<const ProbePolicy*>(target)->expect) {
    list.items.push_back(range.first == range.second ? Value::number(range.first) : Value::string(format_range(range)));
  }
  return list;
}

constexpr Key kProbeKeys[] = {
    key<&ProbePolicy::type>("type", "What counts as an answer: a TCP handshake, an HTTP status, or gRPC health."),
    key<&ProbePolicy::when>("when", "Probe only while this node sends connections to the service, or always."),
    key<&ProbePolicy::interval>("interval", "Time between two probes of one endpoint.", between(10ms, 1h)),
    key<&ProbePolicy::timeout>("timeout", "One deadline for the whole probe, from connect to the last byte.",
                               between(10ms, 5min)),
    key<&ProbePolicy::fast_interval>("fast_interval", "Interval while an endpoint is between up and down.",
                                     between(10ms, 1h)),
    key<&ProbePolicy::rise>("rise", "Successes in a row before an endpoint is up again.", {1, 100}),
    key<&ProbePolicy::fall>("fall", "Failures in a row before an endpoint is down.", {1, 100}),
    key<&ProbePolicy::jitter_percent>("jitter", "Random part of the interval in percent, both ways.", {0, 50}),
    key<&ProbePolicy::require_initial_check>("require_initial_check",
                                             "An endpoint gets no connections before its first success."),
    key<&ProbePolicy::port>("port", "Probe this port instead of the endpoint's; 0 is the endpoint's.", {0, 65535}),
    with_decode(key<&ProbePolicy::method>("method", "HTTP method."), decode_method),
    with_decode(key<&ProbePolicy::path>("path", "HTTP path, with its query."), decode_path),
    with_decode(key<&ProbePolicy::host>("host", "Host header; empty is the endpoint's address."),
                decode_host<&ProbePolicy::host>),
    {.name = "headers",
     .doc = "HTTP headers to send. Not shown by config show.",
     .schema = R"({"type":"object","maxProperties":32,"additionalProperties":{"type":"string"}})",
     .decode = decode_headers,
     .encode = encode_headers},
    {.name = "expect",
     .doc = "HTTP statuses that are a success: numbers and ranges.",
     .schema =
         R"({"oneOf":[{"type":"integer","minimum":100,"maximum":599},{"type":"string","pattern":"^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$"},{"type":"array","minItems":1,"maxItems":32,"items":{"oneOf":[{"type":"integer","minimum":100,"maximum":599},{"type":"string","pattern":"^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$"}]}}]})",
     .decode = decode_expect,
     .encode = encode_expect},
    key<&ProbePolicy::expect_body>("expect_body",
                                   "Text that must occur in the first 16 KiB of the body; empty is not looked at."),
    key<&ProbePolicy::tls>("tls", "Probe gRPC over TLS."),
    with_decode(key<&ProbePolicy::sni>("sni", "Server name to ask for and to verify; empty is host without its port."),
                decode_host<&ProbePolicy::sni>),
    key<&ProbePolicy::ca_file>("ca_file", "PEM file of trusted issuers; empty is the system's."),
    key<&ProbePolicy::verify>("verify", "Verify the certificate's chain, name and expiry."),
    key<&ProbePolicy::grpc_service>("grpc_service",
                                    "Service name of grpc.health.v1.Health/Check; empty is the whole server."),
};

const ProbePolicy kFreshProbe{};

constexpr unsigned bit(model::ProbeType type) { return 1u << static_cast<unsigned>(type); }
constexpr unsigned kHttpTypes = bit(model::ProbeType::kHttp) | bit(model::ProbeType::kHttps);
constexpr unsigned kTlsTypes = bit(model::ProbeType::kHttps) | bit(model::ProbeType::kGrpc);

/// Keys that mean something for some types of probe only.
constexpr std::pair<std::string_view, unsigned> kKeyTypes[] = {
    {"method", kHttpTypes},
    {"path", kHttpTypes},
    {"host", kHttpTypes | bit(model::ProbeType::kGrpc)},
    {"headers", kHttpTypes},
    {"expect", kHttpTypes},
    {"expect_body", kHttpTypes},
    {"tls", bit(model::ProbeType::kGrpc)},
    {"sni", kTlsTypes},
    {"ca_file", kTlsTypes},
    {"verify", kTlsTypes},
    {"grpc_service", bit(model::ProbeType::kGrpc)},
};

/// A key without meaning for the type is an error where it is written; inherited, it falls back to its default, so that
/// equal probes are equal objects.
void fit_keys_to_type(Decoder& decoder, const Value& value, ProbePolicy& probe) {
  for (const auto& [name, types] : kKeyTypes) {
    if ((types & bit(probe.type)) != 0) continue;
    const Value* const written = value.find(name);
    if (written == nullptr) {
      const Key& key = *kProbeTable.find(name);
      key.decode(decoder, key, key.encode(key, &kFreshProbe, Secrets::kReveal), &probe);
      continue;
    }
    std::string fitting;
    for (std::size_t i = 0; i < EnumNames<model::ProbeType>::kValues.size(); ++i) {
      if ((types & bit(EnumNames<model::ProbeType>::kValues[i])) == 0) continue;
      fitting += (fitting.empty() ? "" : " or ") + std::string(EnumNames<model::ProbeType>::kNames[i]);
    }
    decoder.under(name, [&] {
      decoder.error_at(written->key_place,
                       "has no meaning for a " + std::string(model::to_string(probe.type)) + " probe",
                       "set type: " + fitting + ", or remove it");
    });
  }
}

/// A longer time than the interval is an error where it is written, and shortened where it is inherited.
void fit_into_interval(Decoder& decoder, const Value& value, std::string_view name, std::chrono::milliseconds interval,
                       std::chrono::milliseconds& time) {
  if (time <= interval) return;
  const Value* const written = value.find(name);
  if (written == nullptr) {
    time = interval;
    return;
  }
  decoder.under(name, [&] {
    decoder.error(*written, "longer than the interval of " + std::to_string(interval.count()) + "ms",
                  "shorten it or set a longer interval");
  });
}

}  // namespace

const Table kProbeTable{.name = "probe", .keys = kProbeKeys, .defaults = &kFreshProbe};

void decode_probe(Decoder& decoder, const Value& value, ProbePolicy& probe) {
  decoder.table(kProbeTable, value, &probe);
  fit_keys_to_type(decoder, value, probe);
  fit_into_interval(decoder, value, "timeout", probe.interval, probe.timeout);
  fit_into_interval(decoder, value, "fast_interval", probe.interval, probe.fast_interval);
}

Value encode_probe(const ProbePolicy& probe, Secrets secrets) {
  // People want to see every setting that means something; the state on disk wants to be small.
  Value map = encode(kProbeTable, &probe, secrets, secrets == Secrets::kReveal ? Encode::kChanged : Encode::kAll);
  std::erase_if(map.items, [&](const Value& item) {
    const auto found = std::find_if(std::begin(kKeyTypes), std::end(kKeyTypes),
                                    [&](const auto& entry) { return entry.first == item.key; });
    return found != std::end(kKeyTypes) && (found->second & bit(probe.type)) == 0;
  });
  return map;
}

std::size_t hash_of(const ProbePolicy& probe) {
  const auto hash = [](std::string_view text) { return std::hash<std::string_view>{}(text); };
  return hash(probe.path) ^ (hash(probe.host) * 3) ^ (hash(probe.grpc_service) * 5) ^
         base::mix64(static_cast<std::uint64_t>(probe.interval.count()) * 8 + static_cast<unsigned>(probe.type) +
                     (std::uint64_t{probe.port} << 48));
}

}  // namespace mesh::discovery
