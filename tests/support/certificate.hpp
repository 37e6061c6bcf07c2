// SPDX-License-Identifier: Apache-2.0
// Certificates for tests, made on the spot: none in the repository can expire.
#pragma once

#include <chrono>
#include <string>

namespace mesh::test {

struct CertificatePem {
  std::string certificate;
  std::string key;
};

/// A self-signed certificate for a DNS name, valid from a day before `end` until then.
CertificatePem make_certificate(const std::string& name, std::chrono::system_clock::time_point end);

}  // namespace mesh::test
