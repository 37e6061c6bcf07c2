// SPDX-License-Identifier: Apache-2.0
// Names of workloads: SPIFFE IDs (spiffe://TRUST-DOMAIN/PATH), by the rules of the SPIFFE-ID specification.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mesh::tls {

struct SpiffeId {
  std::string trust_domain;  ///< "example.org"
  std::string path;          ///< "/ns/shop/sa/cart"; empty: the trust domain itself.

  /// kInvalid, and which rule it breaks. Only the one way to write an ID is taken: lower-case scheme and trust domain,
  /// no port, user, query, fragment or percent-encoding, no empty, "." or ".." segment.
  static base::Result<SpiffeId> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const SpiffeId&) const = default;
};

/// An identity as an allow-list has it: "spiffe://example.org/ns/shop/sa/cart", or with "/*" at its end all below:
/// "spiffe://example.org/ns/shop/*", "spiffe://example.org/*".
struct SpiffePattern {
  SpiffeId id;
  bool below = false;  ///< All whose path begins with id.path and a slash; not id itself.

  static base::Result<SpiffePattern> parse(std::string_view text);
  [[nodiscard]] bool matches(const SpiffeId& other) const;
  [[nodiscard]] std::string to_string() const;
  bool operator==(const SpiffePattern&) const = default;
};

/// A trust domain's name: "example.org".
base::Result<void> check_trust_domain(std::string_view name);

}  // namespace mesh::tls
