// SPDX-License-Identifier: Apache-2.0
#include "acme/jws.hpp"

#include <nlohmann/json.hpp>

namespace mesh::acme {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string flattened(const std::string& header, std::string_view payload, const auto& signature_of) {
  const std::string encoded_header = base64url(header);
  const std::string encoded_payload = base64url(payload);
  return Json{{"protected", encoded_header},
              {"payload", encoded_payload},
              {"signature", base64url(signature_of(encoded_header + "." + encoded_payload))}}
      .dump();
}

}  // namespace

std::string base64url(std::string_view bytes) {
  std::string text;
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (const char c : bytes) {
    held = held << 8 | static_cast<unsigned char>(c);
    for (bits += 8; bits >= 6; bits -= 6) text += kAlphabet[held >> (bits - 6) & 63];
  }
  if (bits > 0) text += kAlphabet[held << (6 - bits) & 63];
  return text;
}

std::optional<std::string> base64url_decode(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (const char c : text) {
    const auto value = kAlphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    held = held << 6 | static_cast<std::uint32_t>(value);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(held >> bits & 255);
  }
  return bytes;
}

std::string jwk(const tls::PrivateKey& key) {
  const std::string point = key.point();
  return Json{{"crv", "P-256"},
              {"kty", "EC"},
              {"x", base64url(point.substr(0, point.size() / 2))},
              {"y", base64url(point.substr(point.size() / 2))}}
      .dump();
}

std::string thumbprint(const tls::PrivateKey& key) { return base64url(tls::sha256(jwk(key))); }

std::string key_authorization(std::string_view token, const tls::PrivateKey& key) {
  return std::string(token) + "." + thumbprint(key);
}

std::string sign(const Signer& signer, std::string_view nonce, std::string_view url, std::string_view payload) {
  Json header = {{"alg", "ES256"}};
  if (signer.account.empty()) {
    header["jwk"] = Json::parse(jwk(signer.key));
  } else {
    header["kid"] = signer.account;
  }
  header["nonce"] = nonce;
  header["url"] = url;
  return flattened(header.dump(), payload, [&](const std::string& text) { return signer.key.sign_es256(text); });
}

std::string binding(std::string_view kid, std::string_view mac_key, const tls::PrivateKey& key, std::string_view url) {
  const Json header = {{"alg", "HS256"}, {"kid", kid}, {"url", url}};
  return flattened(header.dump(), jwk(key), [&](const std::string& text) { return tls::hmac_sha256(mac_key, text); });
}

}  // namespace mesh::acme
