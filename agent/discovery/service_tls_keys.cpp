// SPDX-License-Identifier: Apache-2.0
#include "discovery/service_tls_keys.hpp"

#include <algorithm>
#include <array>

#include "tls/spiffe.hpp"

namespace mesh::discovery {

using model::TlsPolicy;

template <>
struct EnumNames<model::TlsMode> {
  static constexpr std::array<std::string_view, 2> kNames = {"originate", "mutual"};
  static constexpr std::array<model::TlsMode, 2> kValues = {model::TlsMode::kOriginate, model::TlsMode::kMutual};
};

namespace {

constexpr std::array<std::string_view, 2> kVersions = {"1.2", "1.3"};
constexpr std::size_t kProtocolsMax = 16;
constexpr std::size_t kServerIdsMax = 1000;

template <std::string TlsPolicy::* Member>
void decode_file(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<TlsPolicy*>(target)->*Member = std::move(text);
}

void decode_server_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  if (!text.empty() && !is_server_name(text)) {
    decoder.error(value, "'" + text + "' is neither a name nor an address that a certificate can be for",
                  "write it as orders.example.com or 10.0.0.1");
    return;
  }
  static_cast<TlsPolicy*>(target)->server_name = std::move(text);
}

void decode_alpn(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> protocols;
  if (!decoder.strings(value, protocols)) return;
  const auto good = [](const std::string& one) { return !one.empty() && one.size() <= 255; };
  if (protocols.size() > kProtocolsMax || !std::ranges::all_of(protocols, good)) {
    decoder.error(value, "must be at most " + std::to_string(kProtocolsMax) + " names of 1 to 255 bytes",
                  "write [http/1.1]");
    return;
  }
  static_cast<TlsPolicy*>(target)->alpn = std::move(protocols);
}

void decode_server_ids(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> identities;
  if (!decoder.strings(value, identities)) return;
  if (identities.size() > kServerIdsMax) {
    decoder.error(value, "names more than " + std::to_string(kServerIdsMax) + " identities");
    return;
  }
  for (const std::string& text : identities) {
    if (const auto pattern = tls::SpiffePattern::parse(text); !pattern) {
      decoder.error(value, "'" + text + "': " + pattern.error().message,
                    "write spiffe://example.org/node/a or spiffe://example.org/node/*");
      return;
    }
  }
  static_cast<TlsPolicy*>(target)->server_ids = std::move(identities);
}

constexpr Key kServiceTlsKeys[] = {
    key<&TlsPolicy::mode>(
        "mode", "originate: the relay speaks TLS to the endpoint; mutual: mutual TLS to the relay of its node."),
    with_decode(key<&TlsPolicy::server_name>(
                    "server_name", "Name or address to ask for and to verify; empty is the name of the service."),
                decode_server_name),
    with_decode(key<&TlsPolicy::ca>("ca",
                                    "PEM file of who may have issued the endpoint's certificate; empty is the "
                                    "system's trust store. The relay reads it, and the next ones."),
                decode_file<&TlsPolicy::ca>),
    with_decode(key<&TlsPolicy::certificate>("certificate", "PEM file of the certificate to show, then its chain."),
                decode_file<&TlsPolicy::certificate>),
    with_decode(key<&TlsPolicy::key>("key", "PEM file of its private key, without passphrase."),
                decode_file<&TlsPolicy::key>),
    choice_key<&TlsPolicy::min_version>("min_version", "The oldest TLS that is spoken.", kVersions),
    with_decode(key<&TlsPolicy::alpn>("alpn", "Protocols to offer, preferred first; empty: none is negotiated."),
                decode_alpn),
    with_decode(
        key<&TlsPolicy::server_ids>("server_ids",
                                    "Of mutual, and needed there: identities of relays that may answer; with /* at the "
                                    "end all below."),
        decode_server_ids),
};

const TlsPolicy kFreshTls{};

}  // namespace

const Table kServiceTlsTable{.name = "tls", .keys = kServiceTlsKeys, .defaults = &kFreshTls};

bool is_server_name(std::string_view text) {
  if (base::IpAddress::parse(text)) return true;
  if (text.empty() || text.size() > 253) return false;
  char before = '.';
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (!letter && (c != '.' || before == '.')) return false;
    before = c;
  }
  return before != '.';
}

void decode_service_tls(Decoder& decoder, const Value& value, std::shared_ptr<const TlsPolicy>& policy) {
  if (value.is_scalar() && (value.text == "off" || value.text == "false")) {
    policy.reset();
    return;
  }
  if (value.is_scalar() && value.text == "originate") {
    TlsPolicy written = policy ? *policy : TlsPolicy{};
    written.mode = model::TlsMode::kOriginate;
    policy = std::make_shared<const TlsPolicy>(std::move(written));
    return;
  }
  if (value.kind != Value::Kind::kMap) {
    decoder.error(value, "must be off, originate or a map of keys and values");
    return;
  }
  TlsPolicy written = policy ? *policy : TlsPolicy{};
  const std::size_t errors = decoder.error_count();
  decoder.table(kServiceTlsTable, value, &written);
  if (decoder.error_count() != errors) return;
  if (written.certificate.empty() != written.key.empty()) {
    decoder.error(value, "a certificate needs its key, and a key its certificate",
                  written.key.empty() ? "add key: FILE" : "add certificate: FILE");
    return;
  }
  if (written.mode == model::TlsMode::kMutual && written.server_ids.empty()) {
    decoder.error(value, "mode mutual does not say who may answer", "add server_ids: [spiffe://example.org/node/*]");
    return;
  }
  policy = std::make_shared<const TlsPolicy>(std::move(written));
}

Value encode_service_tls(const TlsPolicy* policy, Secrets secrets) {
  if (policy == nullptr) return Value::string("off");
  if (secrets == Secrets::kHide) return encode(kServiceTlsTable, policy, secrets);
  if (*policy == kFreshTls) return Value::string("originate");
  return encode(kServiceTlsTable, policy, secrets, Encode::kChanged);
}

}  // namespace mesh::discovery
