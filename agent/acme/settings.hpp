// SPDX-License-Identifier: Apache-2.0
// `relay.acme:` of the configuration. Passive values.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "tls/private_key.hpp"

namespace mesh::acme {

/// How the issuer sees that a name leads to this node.
enum class Challenge : std::uint8_t {
  kHttp01,     ///< It asks port 80 of the name.
  kTlsAlpn01,  ///< It connects to port 443 of the name: a listener of the relay.
};

/// For issuers that want to know a customer of theirs behind an account.
struct AccountBinding {
  std::string kid;
  std::string key;  ///< File with the key as the issuer wrote it: base64url.
  bool operator==(const AccountBinding&) const = default;
};

/// One certificate: NAME.crt and NAME.key in the folder.
struct CertificateSettings {
  std::string name;                ///< Of [a-z0-9-]; unique.
  std::vector<std::string> names;  ///< Lower-case DNS names, no wildcards.
  bool operator==(const CertificateSettings&) const = default;
};

struct Settings {
  std::string directory;  ///< https://...; empty: no certificates are fetched.
  bool terms_agreed = false;
  std::vector<std::string> contact;  ///< "mailto:ops@example.com"
  AccountBinding eab;
  std::string ca;           ///< PEM file of who issued the directory's certificate; empty: the system's.
  std::string issuer_node;  ///< `agent.node` of the one node that fetches; others read the folder.
  std::string folder = "/var/lib/meshd/relay/acme";
  Challenge challenge = Challenge::kTlsAlpn01;
  base::SocketAddress listen{.ip = {}, .port = 80};  ///< Of http-01.
  tls::KeyType key_type = tls::KeyType::kEcP256;
  std::chrono::seconds renew_before{0};  ///< 0: a third of the certificate's life.
  std::vector<CertificateSettings> certificates;
  bool operator==(const Settings&) const = default;
};

inline constexpr std::size_t kCertificatesMax = 1000;
inline constexpr std::size_t kNamesMax = 100;  ///< Of one certificate, as public issuers have it.

}  // namespace mesh::acme
