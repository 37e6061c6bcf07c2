// SPDX-License-Identifier: Apache-2.0
#include "app/acme_keys.hpp"

#include <algorithm>
#include <array>

#include "acme/answers.hpp"
#include "app/list_key.hpp"
#include "relay/settings.hpp"
#include "tls/name_index.hpp"

namespace mesh::discovery {
template <>
struct EnumNames<acme::Challenge> {
  static constexpr std::array<std::string_view, 2> kNames = {"http-01", "tls-alpn-01"};
  static constexpr std::array<acme::Challenge, 2> kValues = {acme::Challenge::kHttp01, acme::Challenge::kTlsAlpn01};
};
template <>
struct EnumNames<tls::KeyType> {
  static constexpr std::array<std::string_view, 3> kNames = {"ec-p256", "ec-p384", "rsa-2048"};
  static constexpr std::array<tls::KeyType, 3> kValues = {tls::KeyType::kEcP256, tls::KeyType::kEcP384,
                                                          tls::KeyType::kRsa2048};
};
}  // namespace mesh::discovery

namespace mesh::app {

using namespace std::chrono_literals;
using discovery::between;
using discovery::Decoder;
using discovery::Key;
using discovery::key;
using discovery::required;
using discovery::Table;
using discovery::table_key;
using discovery::Value;
using discovery::with_decode;

namespace {

constexpr std::size_t kNameMax = 63;
constexpr std::size_t kDnsNameMax = 253;

const acme::Settings kFreshAcme{};
const acme::AccountBinding kFreshBinding{};
const acme::CertificateSettings kFreshCertificate{};

/// It becomes the name of files.
void decode_certificate_name(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool good = !text.empty() && text.size() <= kNameMax && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!good) {
    decoder.error(value, "a certificate's name is 1 to 63 of a-z 0-9 -");
    return;
  }
  static_cast<acme::CertificateSettings*>(target)->name = std::move(text);
}

void decode_names(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> names;
  if (!decoder.strings(value, names)) return;
  if (names.empty() || names.size() > acme::kNamesMax) {
    decoder.error(value, "a certificate is for 1 to " + std::to_string(acme::kNamesMax) + " names");
    return;
  }
  for (std::string& name : names) {
    name = tls::normal_name(name);
    const bool good = name.size() <= kDnsNameMax && name.contains('.') && !name.starts_with('.') &&
                      !name.contains("..") && std::ranges::all_of(name, [](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
                      });
    if (good) continue;
    decoder.error(value, "'" + name + "' is no name that an issuer can look at",
                  "write shop.example.com; a wildcard needs a challenge of DNS, which meshd does not have");
    return;
  }
  static_cast<acme::CertificateSettings*>(target)->names = std::move(names);
}

/// Unlike an address to connect to, it may be that of all interfaces.
void decode_listen(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto address = base::SocketAddress::parse(text);
  if (!address) {
    decoder.error(value, address.error().message, "write it as 0.0.0.0:80, \"[::]:80\" or 10.0.0.1:80");
    return;
  }
  static_cast<acme::Settings*>(target)->listen = *address;
}

constexpr Key kBindingKeys[] = {
    key<&acme::AccountBinding::kid>("kid", "What the issuer calls you."),
    with_decode(key<&acme::AccountBinding::key>("key", "File with the key that it gave you, in base64url."),
                decode_file<&acme::AccountBinding::key>),
};
constexpr Key kCertificateKeys[] = {
    required(with_decode(key<&acme::CertificateSettings::name>("name", "Of its files: NAME.crt and NAME.key."),
                         decode_certificate_name)),
    required(with_decode(key<&acme::CertificateSettings::names>("names", "DNS names that it is for; no wildcards."),
                         decode_names)),
};

}  // namespace

const Table kAcmeBindingTable{.name = "eab", .keys = kBindingKeys, .defaults = &kFreshBinding};
const Table kAcmeCertificateTable{.name = "certificates", .keys = kCertificateKeys, .defaults = &kFreshCertificate};

namespace {

constexpr Key kAcmeKeys[] = {
    key<&acme::Settings::directory>("directory", "URL of the issuer's directory, https; empty: nothing is fetched."),
    key<&acme::Settings::terms_agreed>("terms_agreed", "You agree to the issuer's terms of service; must be true."),
    key<&acme::Settings::issuer_node>(
        "issuer_node", "The `agent.node` (or host name, where that is empty) of the one node that fetches."),
    key<&acme::Settings::contact>("contact", "URLs where the issuer reaches you: mailto:ops@example.com."),
    table_key<&acme::Settings::eab>("eab", "Binds the account to what the issuer knows you by.", kAcmeBindingTable),
    with_decode(
        key<&acme::Settings::ca>("ca", "PEM file of who issued the directory's certificate; empty: public ones."),
        decode_file<&acme::Settings::ca>),
    with_decode(key<&acme::Settings::folder>("folder", "Where certificates and the account are kept."),
                decode_file<&acme::Settings::folder>),
    key<&acme::Settings::challenge>("challenge", "How the issuer sees that a name leads here."),
    with_decode(key<&acme::Settings::listen>("listen", "Where http-01 is answered; the issuer asks port 80."),
                decode_listen),
    key<&acme::Settings::key_type>("key_type", "Of the certificates."),
    key<&acme::Settings::renew_before>("renew_before",
                                       "Before the end; 0s: a third of the life, or when the issuer suggests.",
                                       between(0s, 365 * 24h)),
    list_key<&acme::Settings::certificates, acme::kCertificatesMax, kAcmeCertificateTable>(
        "certificates", "What is fetched.",
        R"({"type":["array","null"],"items":{"$ref":"#/definitions/acme_certificate"}})"),
};

void check(Decoder& decoder, const Value& value, const acme::Settings& acme) {
  if (acme.directory.empty()) {
    if (acme != kFreshAcme) decoder.error(value, "acme names no issuer", "add directory: https://...");
    return;
  }
  if (!acme::is_good_url(acme.directory)) {
    decoder.error(value, "acme's directory is no https URL",
                  "write the issuer's, such as https://acme-v02.api.letsencrypt.org/directory");
  } else if (!acme.terms_agreed) {
    decoder.error(value, "acme needs your agreement to the issuer's terms", "read them and add terms_agreed: true");
  } else if (acme.issuer_node.empty()) {
    decoder.error(value, "acme does not say which node fetches", "add issuer_node: the agent.node of one");
  } else if (acme.eab.kid.empty() != acme.eab.key.empty()) {
    decoder.error(value, "acme's eab has only one of kid and key", "add the other");
  } else if (acme.folder.empty()) {
    decoder.error(value, "acme has no folder", "remove the key folder, or name one");
  } else if (acme.certificates.empty()) {
    decoder.error(value, "acme fetches nothing", "add certificates: [{name: shop, names: [shop.example.com]}]");
  }
  for (auto one = acme.certificates.begin(); one != acme.certificates.end(); ++one) {
    if (std::find_if(acme.certificates.begin(), one, [&](const auto& other) { return other.name == one->name; }) !=
        one) {
      decoder.error(value, "two certificates of acme are called " + one->name);
    }
  }
}

}  // namespace

const Table kAcmeTable{.name = "acme", .keys = kAcmeKeys, .defaults = &kFreshAcme};

void decode_acme(Decoder& decoder, const Key& key, const Value& value, void* target) {
  const std::size_t errors = decoder.error_count();
  acme::Settings& acme = static_cast<relay::Settings*>(target)->acme;
  decoder.table(*key.table, value, &acme);
  if (decoder.error_count() == errors) check(decoder, value, acme);
}

}  // namespace mesh::app
