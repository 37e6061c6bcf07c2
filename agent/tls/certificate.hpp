// SPDX-License-Identifier: Apache-2.0
// A certificate with its chain and private key, read and checked once and then handed to every worker. Text in, values
// out: whoever owns the files reads them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

struct x509_st;

namespace mesh::tls {

/// What people want to know of a certificate.
struct CertificateFacts {
  std::string subject;  ///< "CN=shop.example.com,O=Example", RFC 2253
  std::string issuer;
  std::string serial;       ///< Upper-case hex.
  std::string fingerprint;  ///< SHA-256 of the DER form, lower-case hex.
  std::string key;          ///< "RSA 2048", "EC prime256v1", "ED25519"
  /// Subject alternative names; without any, the common name if it can be one. Lower case.
  std::vector<std::string> dns_names;
  std::vector<std::string> addresses;  ///< "10.0.0.1", "fd00::1"
  std::vector<std::string> uris;       ///< "spiffe://example.org/shop"
  base::WallTime not_before{};
  base::WallTime not_after{};
  /// Of it and the chain below the root that ends first; not_after of the certificate itself if that is first.
  base::WallTime chain_ends{};
  bool operator==(const CertificateFacts&) const = default;
};

/// Immutable. The key's text is wiped when it goes.
class Certificate {
 public:
  /// `chain`: PEM text of the certificate and then its issuers' in order; `key`: PEM text of its private key.
  /// kInvalid if one of them is none, the key is encrypted, too weak or not that of the certificate, or an issuer is
  /// not that of the one before it. One that has expired is taken: whoever uses it says so.
  static base::Result<std::shared_ptr<const Certificate>> parse(std::string chain, std::string key);
  ~Certificate();
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  [[nodiscard]] const CertificateFacts& facts() const { return facts_; }
  [[nodiscard]] bool is_rsa() const { return is_rsa_; }
  [[nodiscard]] const std::string& chain_pem() const { return chain_; }
  [[nodiscard]] const std::string& key_pem() const { return key_; }

 private:
  Certificate(std::string chain, std::string key) : chain_(std::move(chain)), key_(std::move(key)) {}
  std::string chain_;
  std::string key_;
  CertificateFacts facts_;
  bool is_rsa_ = false;
};

/// Issuers whose certificates a peer may show, and what they revoked. Immutable.
class Authorities {
 public:
  /// PEM texts of one or more certificates, and of none or more revocation lists. kInvalid if one is damaged, there is
  /// no certificate, or a list is of none of them.
  static base::Result<std::shared_ptr<const Authorities>> parse(std::string certificates, std::string revoked);

  [[nodiscard]] const std::vector<CertificateFacts>& facts() const { return facts_; }
  /// When the first of the revocation lists is out of date: from then on it refuses everybody.
  [[nodiscard]] std::optional<base::WallTime> lists_end() const { return lists_end_; }
  [[nodiscard]] const std::string& certificates_pem() const { return certificates_; }
  [[nodiscard]] const std::string& revoked_pem() const { return revoked_; }

 private:
  Authorities() = default;
  std::string certificates_;
  std::string revoked_;
  std::vector<CertificateFacts> facts_;
  std::optional<base::WallTime> lists_end_;
};

CertificateFacts facts_of(x509_st* certificate);

}  // namespace mesh::tls
