// SPDX-License-Identifier: Apache-2.0
// What an account says to its issuer: JSON that is signed (RFC 7515, flattened; ES256), keys as JSON (RFC 7517, 7638).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tls/private_key.hpp"

namespace mesh::acme {

std::string base64url(std::string_view bytes);  ///< Without padding.
/// Nothing if it is none; padding is taken.
std::optional<std::string> base64url_decode(std::string_view text);

/// The public key of a P-256 key, its members in the order of their names and without space.
std::string jwk(const tls::PrivateKey& key);
std::string thumbprint(const tls::PrivateKey& key);
/// What answers a challenge: "TOKEN.THUMBPRINT".
std::string key_authorization(std::string_view token, const tls::PrivateKey& key);

/// Who signs: an account that is known, or a key that wants to have one.
struct Signer {
  const tls::PrivateKey& key;
  std::string account;  ///< URL; empty: the key itself is sent.
};
/// `payload`: JSON text; empty: only asks (POST-as-GET).
std::string sign(const Signer& signer, std::string_view nonce, std::string_view url, std::string_view payload);

/// What binds an account's key to what the issuer knows as `kid` (RFC 8555, 7.3.4); `mac_key`: bytes.
std::string binding(std::string_view kid, std::string_view mac_key, const tls::PrivateKey& key, std::string_view url);

}  // namespace mesh::acme
