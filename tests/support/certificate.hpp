// SPDX-License-Identifier: Apache-2.0
// Certificates for tests, made on the spot: none in the repository can expire.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace mesh::test {

struct CertificatePem {
  std::string certificate;
  std::string key;
};

enum class KeyKind { kEc256, kRsa2048, kRsa1024 };

/// Both are self-signed or, with an `issuer`, signed by it; valid from a day before `end` until then. `names`: as
/// OpenSSL writes them, "DNS:a.test,IP:10.0.0.1".
CertificatePem make_certificate_for(const std::string& names, std::chrono::system_clock::time_point end,
                                    const CertificatePem* issuer, KeyKind kind = KeyKind::kEc256);
CertificatePem make_authority(const std::string& name, std::chrono::system_clock::time_point end,
                              const CertificatePem* issuer = nullptr);

/// A self-signed certificate for a DNS name, valid from a day before `end` until then.
CertificatePem make_certificate(const std::string& name, std::chrono::system_clock::time_point end);

/// As OpenSSL's configuration has them: "subjectAltName" and "URI:spiffe://example.org/a".
using CertificateExtension = std::pair<std::string, std::string>;
CertificatePem make_leaf(const std::vector<CertificateExtension>& extensions, std::chrono::system_clock::time_point end,
                         const CertificatePem* issuer);
/// An X509-SVID as the specification wants it.
CertificatePem make_svid(const std::string& id, std::chrono::system_clock::time_point end,
                         const CertificatePem& issuer);

/// A revocation list of `issuer` that names the serial numbers of `revoked`.
std::string make_revocation_list(const CertificatePem& issuer, const std::vector<CertificatePem>& revoked,
                                 std::chrono::system_clock::time_point next_update);

}  // namespace mesh::test
