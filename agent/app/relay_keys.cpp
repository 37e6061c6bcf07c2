// SPDX-License-Identifier: Apache-2.0
#include "app/relay_keys.hpp"

#include <algorithm>
#include <array>

#include "app/acme_keys.hpp"
#include "app/identity_keys.hpp"
#include "app/list_key.hpp"
#include "discovery/json_reader.hpp"
#include "relay/plaintext.hpp"
#include "tls/spiffe.hpp"

namespace mesh::discovery {
template <>
struct EnumNames<relay::Mode> {
  static constexpr std::array<std::string_view, 2> kNames = {"terminate", "passthrough"};
  static constexpr std::array<relay::Mode, 2> kValues = {relay::Mode::kTerminate, relay::Mode::kPassthrough};
};
template <>
struct EnumNames<relay::Plaintext> {
  static constexpr std::array<std::string_view, 3> kNames = {"unwatched", "permissive", "refuse"};
  static constexpr std::array<relay::Plaintext, 3> kValues = {relay::Plaintext::kUnwatched,
                                                              relay::Plaintext::kPermissive, relay::Plaintext::kRefuse};
};
template <>
struct EnumNames<tls::ClientVerify> {
  static constexpr std::array<std::string_view, 3> kNames = {"none", "optional", "require"};
  static constexpr std::array<tls::ClientVerify, 3> kValues = {tls::ClientVerify::kNone, tls::ClientVerify::kOptional,
                                                               tls::ClientVerify::kRequire};
};
}  // namespace mesh::discovery

namespace mesh::app {

using namespace std::chrono_literals;
using discovery::between;
using discovery::choice_key;
using discovery::Decoder;
using discovery::Key;
using discovery::key;
using discovery::Table;
using discovery::table_key;
using discovery::Value;

namespace {

constexpr std::size_t kMaxName = 63;
constexpr std::string_view kExampleId = "spiffe://example.org/ns/shop/sa/cart or spiffe://example.org/ns/shop/*";

const relay::Settings kFreshSettings{};
const relay::ListenerSettings kFreshListener{};
const relay::NameRoute kFreshRoute{};
const relay::CertificatePair kFreshCertificate{};
const relay::TlsSettings kFreshTls{};
const relay::ProxyProtocol kFreshProxy{};
const relay::Limits kFreshLimits{};
const relay::TrustBundle kFreshTrust{};
const relay::MeshService kFreshMeshService{};
const relay::MeshSettings kFreshMesh{};

/// Lower case, as names are compared.
void decode_sni(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  const std::string_view labels = text.starts_with("*.") ? std::string_view(text).substr(2) : std::string_view(text);
  const bool good = !labels.empty() && labels.size() <= 253 && std::ranges::all_of(labels, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
  if (!good) {
    decoder.error(value, "'" + text + "' is no name that a client can ask for",
                  "write it as shop.example.com or *.example.com; service is for all others");
    return;
  }
  static_cast<relay::NameRoute*>(target)->sni = std::move(text);
}

void decode_listener_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool good = !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!good) {
    decoder.error(value, "a listener's name is 1 to 63 of a-z 0-9 -");
    return;
  }
  static_cast<relay::ListenerSettings*>(target)->name = std::move(text);
}

/// Unlike an address to connect to, it may be that of all interfaces.
template <auto Member>
void decode_listen_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto address = base::SocketAddress::parse(text);
  if (!address) {
    decoder.error(value, address.error().message, "write it as 0.0.0.0:443, \"[::]:443\" or 10.0.0.1:443");
    return;
  }
  static_cast<typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object*>(target)->*Member = *address;
}

/// As it is written where there is none.
void decode_mesh_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  if (value.kind == Value::Kind::kNull) return;
  decode_listen_address<&relay::MeshSettings::address>(decoder, key, value, target);
}

void decode_trust_domain(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (const auto good = tls::check_trust_domain(text); !good) {
    decoder.error(value, good.error().message, "write it as example.org");
    return;
  }
  static_cast<relay::TrustBundle*>(target)->trust_domain = std::move(text);
}

template <auto Member>
void decode_identities(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> identities;
  if (!decoder.strings(value, identities)) return;
  if (identities.empty() || identities.size() > relay::kAllowedMax) {
    decoder.error(value, "names between 1 and " + std::to_string(relay::kAllowedMax) + " identities",
                  "write " + std::string(kExampleId));
    return;
  }
  for (const std::string& text : identities) {
    if (const auto pattern = tls::SpiffePattern::parse(text); !pattern) {
      decoder.error(value, "'" + text + "': " + pattern.error().message, "write " + std::string(kExampleId));
      return;
    }
  }
  static_cast<typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object*>(target)->*Member =
      std::move(identities);
}

void decode_permissive_until(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !relay::permission_end(text)) {
    decoder.error(value, "'" + text + "' is no day and no moment", "write 2026-12-31 or 2026-12-31T18:00:00Z");
    return;
  }
  static_cast<relay::MeshService*>(target)->permissive_until = std::move(text);
}

constexpr Key kRouteKeys[] = {
    required(with_decode(key<&relay::NameRoute::sni>("sni",
                                                     "The name that clients ask for; *.example.com is any of "
                                                     "one more label."),
                         decode_sni)),
    required(key<&relay::NameRoute::service>("service", "Where these connections go.")),
};
constexpr Key kCertificateKeys[] = {
    with_decode(key<&relay::CertificatePair::certificate>(
                    "certificate", "PEM file of the certificate, then its chain; the relay reads it."),
                decode_file<&relay::CertificatePair::certificate>),
    with_decode(key<&relay::CertificatePair::key>("key", "PEM file of its private key, without passphrase."),
                decode_file<&relay::CertificatePair::key>),
    with_decode(key<&relay::CertificatePair::folder>(
                    "folder", "Instead of both: a folder with pairs NAME.crt and NAME.key, as they come and go."),
                decode_file<&relay::CertificatePair::folder>),
};

constexpr Key kTrustKeys[] = {
    required(with_decode(key<&relay::TrustBundle::trust_domain>("trust_domain", "Whose identities these are."),
                         decode_trust_domain)),
    required(with_decode(key<&relay::TrustBundle::bundle>(
                             "bundle", "PEM file of its authorities; of the old and the new one while they change."),
                         decode_file<&relay::TrustBundle::bundle>)),
    with_decode(key<&relay::TrustBundle::crl>(
                    "crl", "PEM file of revocation lists, one of each authority; out of date, they refuse everybody."),
                decode_file<&relay::TrustBundle::crl>),
};
constexpr Key kMeshServiceKeys[] = {
    required(key<&relay::MeshService::service>("service", "NAME, or NAME:PORT.")),
    required(with_decode(key<&relay::MeshService::allow>(
                             "allow", "Identities whose connections are taken; with /* at the end all below."),
                         decode_identities<&relay::MeshService::allow>)),
    key<&relay::MeshService::dry_run>("dry_run", "Take the connections of all other identities too, and count them."),
    key<&relay::MeshService::plaintext>(
        "plaintext", "What comes to endpoints here past the relay: unwatched, permissive (counted), refuse."),
    with_decode(key<&relay::MeshService::permissive_until>(
                    "permissive_until", "Of permissive: a day, until its end in UTC, or a moment; then it is refused."),
                decode_permissive_until),
};

}  // namespace

const Table kNameRouteTable{.name = "routes", .keys = kRouteKeys, .defaults = &kFreshRoute};
const Table kCertificateTable{.name = "certificates", .keys = kCertificateKeys, .defaults = &kFreshCertificate};
const Table kTrustTable{.name = "trust", .keys = kTrustKeys, .defaults = &kFreshTrust};
const Table kMeshServiceTable{.name = "services", .keys = kMeshServiceKeys, .defaults = &kFreshMeshService};

namespace {

constexpr std::size_t kCertificatesMax = 1000;
constexpr std::size_t kProtocolsMax = 16;
constexpr std::array<std::string_view, 2> kVersions = {"1.2", "1.3"};

const relay::ClientSettings kFreshClient{};

void decode_certificates(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  decode_list<&relay::TlsSettings::certificates, kCertificatesMax, kCertificateTable>(decoder, key, value, target);
  if (decoder.error_count() != errors) return;
  const auto& pairs = static_cast<const relay::TlsSettings*>(target)->certificates;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (names_a_certificate(pairs[i])) continue;
    decoder.element(value.items[i], i, [&](const Value& item) {
      decoder.error(item, "names neither a pair of files nor a folder alone",
                    "write {certificate: FILE, key: FILE} or {folder: FOLDER}");
    });
  }
}

void decode_alpn(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> protocols;
  if (!decoder.strings(value, protocols)) return;
  const auto good = [](const std::string& one) { return !one.empty() && one.size() <= 255; };
  if (protocols.size() > kProtocolsMax || !std::ranges::all_of(protocols, good)) {
    decoder.error(value, "must be at most " + std::to_string(kProtocolsMax) + " names of 1 to 255 bytes",
                  "write [h2, http/1.1]");
    return;
  }
  static_cast<relay::TlsSettings*>(target)->alpn = std::move(protocols);
}

constexpr Key kClientKeys[] = {
    key<&relay::ClientSettings::verify>("verify", "Whether clients show a certificate: none, optional, require."),
    with_decode(
        key<&relay::ClientSettings::ca>("ca", "PEM file of who may have issued it; needed unless verify is none."),
        decode_file<&relay::ClientSettings::ca>),
    with_decode(key<&relay::ClientSettings::crl>(
                    "crl", "PEM file of revocation lists, one of each issuer; out of date, they refuse everybody."),
                decode_file<&relay::ClientSettings::crl>),
};
const Table kClientTable{.name = "client", .keys = kClientKeys, .defaults = &kFreshClient};

void decode_client(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  auto& client = static_cast<relay::TlsSettings*>(target)->client;
  decoder.table(*key.table, value, &client);
  if (decoder.error_count() != errors) return;
  if (client.verify != tls::ClientVerify::kNone && client.ca.empty()) {
    decoder.error(value, "verifies clients and names nobody who issues their certificates", "add ca: FILE");
  } else if (!client.crl.empty() && client.ca.empty()) {
    decoder.error(value, "has revocation lists and no ca", "add ca: FILE");
  }
}

constexpr Key kTlsKeys[] = {
    with_decode(list_key<&relay::TlsSettings::certificates, kCertificatesMax, kCertificateTable>(
                    "certificates", "Chosen by the name that a client asks for; the first is for all other names.",
                    R"({"type":"array","items":{"$ref":"#/definitions/certificate"}})"),
                decode_certificates),
    choice_key<&relay::TlsSettings::min_version>("min_version", "The oldest TLS that clients may speak.", kVersions),
    with_decode(key<&relay::TlsSettings::alpn>(
                    "alpn", "Protocols that clients may choose from, preferred first; empty: whatever they like."),
                decode_alpn),
    with_decode(table_key<&relay::TlsSettings::client>("client", "Certificates of clients.", kClientTable),
                decode_client),
};
const Table kTlsTable{.name = "tls", .keys = kTlsKeys, .defaults = &kFreshTls};

constexpr Key kProxyKeys[] = {
    key<&relay::ProxyProtocol::accept>(
        "accept", "Clients are behind a proxy: each connection begins with a header of version 2."),
    key<&relay::ProxyProtocol::send>("send", "Backends get such a header first, with the client's address."),
};
const Table kProxyTable{.name = "proxy_protocol", .keys = kProxyKeys, .defaults = &kFreshProxy};

constexpr Key kLimitKeys[] = {
    key<&relay::Limits::connections>("connections", "At one time; the next one is closed at once.", {1, 10'000'000}),
    key<&relay::Limits::connections_per_source>("connections_per_source", "Of them, from one address; 0 is any number.",
                                                {0, 10'000'000}),
    key<&relay::Limits::handshakes_per_second>("handshakes_per_second",
                                               "Connections begun in a second; 0 is any number.", {0, 1'000'000}),
    key<&relay::Limits::handshake_timeout>("handshake_timeout", "From accept until the client may send data.",
                                           between(100ms, 5min)),
    key<&relay::Limits::connect_timeout>("connect_timeout", "Of one backend; then another is tried.",
                                         between(10ms, 1min)),
    key<&relay::Limits::idle_timeout>("idle_timeout", "Connections without a byte for so long are closed.",
                                      between(1s, 30 * 24h)),
};
const Table kLimitsTable{.name = "limits", .keys = kLimitKeys, .defaults = &kFreshLimits};

constexpr Key kListenerKeys[] = {
    required(with_decode(key<&relay::ListenerSettings::name>("name", "How it is called in status and metrics."),
                         decode_listener_name)),
    required(with_decode(
        key<&relay::ListenerSettings::address>("address", "Where it listens: 0.0.0.0:443, [::]:443 for both families."),
        decode_listen_address<&relay::ListenerSettings::address>)),
    key<&relay::ListenerSettings::mode>("mode", "terminate ends TLS here; passthrough only reads the name."),
    key<&relay::ListenerSettings::service>(
        "service", "Where connections go that no route is for: NAME, or NAME:PORT; \"\" refuses them."),
    list_key<&relay::ListenerSettings::routes, relay::kRoutesMax, kNameRouteTable>(
        "routes", "Services by the name that a client asks for.",
        R"({"type":["array","null"],"items":{"$ref":"#/definitions/route"}})"),
    table_key<&relay::ListenerSettings::tls>("tls", "Of mode terminate.", kTlsTable),
    table_key<&relay::ListenerSettings::proxy_protocol>("proxy_protocol", "PROXY protocol version 2.", kProxyTable),
    table_key<&relay::ListenerSettings::limits>("limits", "Of this listener.", kLimitsTable),
};

}  // namespace

const Table kListenerTable{.name = "listeners", .keys = kListenerKeys, .defaults = &kFreshListener};

namespace {

constexpr Key kMeshKeys[] = {
    with_decode(key<&relay::MeshSettings::address>(
                    "address", "Where relays of other nodes connect: 0.0.0.0:15008; all nodes have the same port."),
                decode_mesh_address),
    table_key<&relay::MeshSettings::identity>(
        "identity", "The X509-SVID that this relay shows: certificate and key, or a folder with one such pair.",
        kCertificateTable),
    list_key<&relay::MeshSettings::trust, relay::kTrustDomainsMax, kTrustTable>(
        "trust", "Whose identities are believed.",
        R"({"type":["array","null"],"items":{"$ref":"#/definitions/trust_bundle"}})"),
    list_key<&relay::MeshSettings::services, relay::kMeshServicesMax, kMeshServiceTable>(
        "services", "Whose endpoints on this node are reached so, and by whom.",
        R"({"type":["array","null"],"items":{"$ref":"#/definitions/mesh_service"}})"),
    table_key<&relay::MeshSettings::limits>("limits", "As those of a listener.", kLimitsTable),
    key<&relay::MeshSettings::port>("port", "Where this node's relay finds the relays of other nodes.", {1, 65'535}),
};
const Table kMeshTable{.name = "mesh", .keys = kMeshKeys, .defaults = &kFreshMesh};

/// What no single key can check.
void decode_mesh(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  auto& mesh = static_cast<relay::Settings*>(target)->mesh;
  decoder.table(*key.table, value, &mesh);
  if (decoder.error_count() != errors || mesh == relay::MeshSettings{}) return;
  const relay::CertificatePair& own = mesh.identity;
  // Without an address this node's applications are clients, and nothing more.
  const bool listens = mesh.address.port != 0;
  if (!listens && !mesh.services.empty())
    decoder.error(value, "has services and no address", "add address: 0.0.0.0:15008");
  if (!listens && own != relay::CertificatePair{}) {
    decoder.error(value, "has no address", "add address: 0.0.0.0:15008");
  } else if (listens && !names_a_certificate(own)) {
    decoder.error(value, "has no identity of this node",
                  "add identity: {certificate: FILE, key: FILE} or identity: {folder: FOLDER}");
  }
  if (mesh.trust.empty()) {
    decoder.error(value, "believes nobody", "add trust: [{trust_domain: example.org, bundle: FILE}]");
  }
  for (std::size_t i = 0; i < mesh.trust.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (mesh.trust[i].trust_domain != mesh.trust[j].trust_domain) continue;
      decoder.error(value, "has two bundles of trust domain " + mesh.trust[i].trust_domain, "put both into one file");
    }
  }
  for (const relay::MeshService& one : mesh.services) {
    const bool permissive = one.plaintext == relay::Plaintext::kPermissive;
    if (permissive && one.permissive_until.empty()) {
      decoder.error(value, "takes plaintext to service " + one.service + " and does not say until when",
                    "add permissive_until: 2026-12-31");
    } else if (!permissive && !one.permissive_until.empty()) {
      decoder.error(value, "says until when plaintext to service " + one.service + " is taken, and not that it is",
                    "add plaintext: permissive");
    }
  }
  for (std::size_t i = 0; i < mesh.services.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (mesh.services[i].service == mesh.services[j].service) {
        decoder.error(value, "names service " + mesh.services[i].service + " twice");
      }
    }
  }
}

/// What no single key can check.
void check_listener(Decoder& decoder, const Value& value, const relay::ListenerSettings& listener) {
  if (listener.name.empty() || listener.address.port == 0) return;  // said already
  if (listener.service.empty() && listener.routes.empty()) {
    decoder.error(value, "listener " + listener.name + " leads nowhere", "add service or routes");
  }
  if (listener.name == relay::kMeshListener) {
    decoder.error(value, "the name mesh is that of relay.mesh", "give the listener another name");
  }
  const bool terminates = listener.mode == relay::Mode::kTerminate;
  if (terminates && listener.tls.certificates.empty()) {
    decoder.error(value, "listener " + listener.name + " has no certificate",
                  "add tls: {certificates: [{certificate: FILE, key: FILE}]}, or mode: passthrough");
  } else if (!terminates && !listener.tls.certificates.empty()) {
    decoder.error(value, "listener " + listener.name + " passes TLS through and has a certificate",
                  "remove tls, or mode");
  }
}

void decode_listeners(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  decode_list<&relay::Settings::listeners, relay::kListenersMax, kListenerTable>(decoder, key, value, target);
  if (decoder.error_count() != errors) return;
  const auto& listeners = static_cast<const relay::Settings*>(target)->listeners;
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      check_listener(decoder, item, listeners[i]);
      for (std::size_t j = 0; j < i; ++j) {
        if (listeners[j].name == listeners[i].name)
          decoder.error(item, "two listeners are called " + listeners[i].name);
        if (listeners[j].address == listeners[i].address) {
          decoder.error(item, "listeners " + listeners[j].name + " and " + listeners[i].name + " have one address");
        }
      }
    });
  }
}

constexpr Key kRelayKeys[] = {
    key<&relay::Settings::workers>("workers", "Threads of the relay; 0 is one for each CPU.", {0, relay::kWorkersMax}),
    key<&relay::Settings::drain_timeout>(
        "drain_timeout", "How long a relay that has a successor keeps its connections.", between(0s, 24h)),
    with_decode(list_key<&relay::Settings::listeners, relay::kListenersMax, kListenerTable>(
                    "listeners", "What the relay listens on.",
                    R"({"type":["array","null"],"items":{"$ref":"#/definitions/listener"}})"),
                decode_listeners),
    table_key<&relay::Settings::originate>("originate", "Limits of each service with tls.", kLimitsTable),
    with_decode(list_key<&relay::Settings::identities, relay::kIdentitiesMax, kIdentityTable>(
                    "identities", "Who applications of this host are to other nodes; the first that is so counts.",
                    R"({"type":["array","null"],"items":{"$ref":"#/definitions/client_identity"}})"),
                decode_client_identities),
    with_decode(table_key<&relay::Settings::mesh>("mesh", "Mutual TLS between nodes.", kMeshTable), decode_mesh),
    with_decode(table_key<&relay::Settings::acme>("acme", "Certificates that the relay fetches by itself.", kAcmeTable),
                decode_acme),
};

}  // namespace

const Table kRelayTable{.name = "relay", .keys = kRelayKeys, .defaults = &kFreshSettings};

void decode_relay(Decoder& decoder, const Value& value, relay::Settings& settings) {
  const std::size_t errors = decoder.error_count();
  decoder.table(kRelayTable, value, &settings);
  if (decoder.error_count() != errors) return;
  if (!settings.identities.empty() && settings.mesh.trust.empty()) {
    decoder.error(value, "has identities and nobody to believe: relay.mesh.trust is missing",
                  "add mesh: {trust: [{trust_domain: example.org, bundle: FILE}]}");
  }
}

std::string encode_relay_settings(const relay::Settings& settings) {
  std::string text;
  write_json(encode(kRelayTable, &settings, discovery::Secrets::kReveal), text, discovery::JsonStyle::kCompact);
  return text;
}

base::Result<relay::Settings> parse_relay_settings(std::string_view json) {
  discovery::Findings findings;
  const discovery::Document document("relay settings", json);
  relay::Settings settings;
  if (const auto value = discovery::read_json(document, json, nullptr, findings)) {
    Decoder decoder(document, findings);
    decode_relay(decoder, *value, settings);
  }
  if (findings.error_count() > 0) return std::unexpected(findings.to_error());
  return settings;
}

}  // namespace mesh::app
