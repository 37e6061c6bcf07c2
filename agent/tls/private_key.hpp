// SPDX-License-Identifier: Apache-2.0
// Private keys that are made here, and what they sign: requests to issuers and their certificate requests. No I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"

struct evp_pkey_st;

namespace mesh::tls {

enum class KeyType : std::uint8_t { kEcP256, kEcP384, kRsa2048 };

/// Immutable; copies share it.
class PrivateKey {
 public:
  static PrivateKey make(KeyType type);
  /// kInvalid if it is no PEM private key without passphrase.
  static base::Result<PrivateKey> parse(std::string_view pem);

  [[nodiscard]] std::string pem() const;  ///< PKCS #8
  [[nodiscard]] bool is_p256() const;
  // Of a P-256 key.
  [[nodiscard]] std::string point() const;                       ///< 64 bytes: x, then y.
  [[nodiscard]] std::string sign_es256(std::string_view) const;  ///< 64 bytes: r, then s (RFC 7518, 3.4).
  /// A certificate request for DNS names, DER (PKCS #10). The names are alternative names only: a common name holds no
  /// more than 64 bytes.
  [[nodiscard]] std::string request(const std::vector<std::string>& names) const;

 private:
  explicit PrivateKey(evp_pkey_st* key);
  std::shared_ptr<evp_pkey_st> key_;
};

/// What a server shows that answers the challenge tls-alpn-01 (RFC 8737): self-signed, for `name`, with `digest` (32
/// bytes) in the critical extension acmeIdentifier.
std::shared_ptr<const Certificate> challenge_certificate(const std::string& name, std::string_view digest,
                                                         base::WallTime now);

/// As renewal information (RFC 9773, 4.1) is asked for of the first certificate of a PEM text: its issuer's key
/// identifier and its serial number, as bytes of DER. Both empty if the certificate names no such identifier.
struct RenewalId {
  std::string key_identifier;
  std::string serial;
};
RenewalId renewal_id(std::string_view pem);

std::string sha256(std::string_view text);                             ///< 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view text);  ///< 32 bytes.

}  // namespace mesh::tls
