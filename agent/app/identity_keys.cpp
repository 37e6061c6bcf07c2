// SPDX-License-Identifier: Apache-2.0
#include "app/identity_keys.hpp"

#include "app/config_keys.hpp"
#include "app/list_key.hpp"
#include "app/relay_keys.hpp"
#include "tls/spiffe.hpp"

namespace mesh::app {

using discovery::Decoder;
using discovery::Key;
using discovery::key;
using discovery::table_key;
using discovery::Value;
using relay::ClientIdentity;

namespace {

const ClientIdentity kFreshIdentity{};

void decode_id(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto id = tls::SpiffeId::parse(text);
  if (!id || id->path.empty()) {
    decoder.error(value, "'" + text + "': " + (id ? "names a trust domain and no workload" : id.error().message),
                  "write spiffe://example.org/ns/shop/sa/cart");
    return;
  }
  static_cast<ClientIdentity*>(target)->id = std::move(text);
}

void decode_cgroup(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  std::string normal = normal_cgroup(text);
  if (normal.empty() && !text.empty()) {
    decoder.error(value, "'" + text + "' is not a path below the cgroup2 mount", "write it as /kubepods.slice");
    return;
  }
  static_cast<ClientIdentity*>(target)->cgroup = std::move(normal);
}

void decode_unit(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (text.find('/') != std::string::npos || text.ends_with(".slice")) {
    decoder.error(value, "'" + text + "' is no unit that has processes", "write shop.service, or use cgroup");
    return;
  }
  static_cast<ClientIdentity*>(target)->unit = std::move(text);
}

constexpr Key kIdentityKeys[] = {
    required(
        with_decode(key<&ClientIdentity::id>("id", "Who they are: a SPIFFE ID, that of the certificate."), decode_id)),
    with_decode(key<&ClientIdentity::cgroup>("cgroup", "Processes of this cgroup and all below: /kubepods.slice."),
                decode_cgroup),
    with_decode(key<&ClientIdentity::unit>("unit", "Processes of this unit of the system's manager: shop.service."),
                decode_unit),
    key<&ClientIdentity::user>("user", "Processes of this user of the host, by number; -1 is any.",
                               {-1, 4'294'967'294}),
    required(table_key<&ClientIdentity::identity>(
        "identity", "The X509-SVID that says so: certificate and key, or a folder with one such pair.",
        kCertificateTable)),
};

}  // namespace

const discovery::Table kIdentityTable{.name = "identities", .keys = kIdentityKeys, .defaults = &kFreshIdentity};

bool names_a_certificate(const relay::CertificatePair& pair) {
  const bool any_file = !pair.certificate.empty() || !pair.key.empty();
  return pair.folder.empty() ? !pair.certificate.empty() && !pair.key.empty() : !any_file;
}

void decode_client_identities(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  decode_list<&relay::Settings::identities, relay::kIdentitiesMax, kIdentityTable>(decoder, key, value, target);
  if (decoder.error_count() != errors) return;
  const auto& identities = static_cast<const relay::Settings*>(target)->identities;
  for (std::size_t i = 0; i < identities.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      const ClientIdentity& one = identities[i];
      if (one.cgroup.empty() && one.unit.empty() && one.user < 0) {
        decoder.error(item, "does not say whose identity it is", "add cgroup, unit or user");
      }
      if (!names_a_certificate(one.identity)) {
        decoder.error(item, "has no certificate",
                      "add identity: {certificate: FILE, key: FILE} or identity: {folder: FOLDER}");
      }
    });
  }
}

}  // namespace mesh::app
