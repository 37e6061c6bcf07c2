// SPDX-License-Identifier: Apache-2.0
#include "tls/spiffe.hpp"

#include <algorithm>

namespace mesh::tls {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::string_view kBelow = "/*";
constexpr std::size_t kIdBytesMax = 2048;
constexpr std::size_t kTrustDomainBytesMax = 255;

std::unexpected<base::Error> broken(std::string_view rule) {
  return base::fail(base::ErrorKind::kInvalid, std::string(rule), "write it as spiffe://example.org/ns/shop/sa/cart");
}

bool is_common(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'; }

base::Result<void> check_path(std::string_view path) {
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view segment = path.substr(0, path.find('/'));
    if (segment.empty()) return broken("a SPIFFE ID's path has an empty segment or ends with /");
    if (segment == "." || segment == "..") return broken("a SPIFFE ID's path has a segment . or ..");
    if (!std::ranges::all_of(segment, [](char c) { return is_common(c) || (c >= 'A' && c <= 'Z'); })) {
      return broken("a SPIFFE ID's path is of a-z A-Z 0-9 - . _ and /");
    }
    path.remove_prefix(segment.size());
  }
  return {};
}

}  // namespace

base::Result<void> check_trust_domain(std::string_view name) {
  if (name.empty()) return broken("a SPIFFE ID has a trust domain");
  if (name.size() > kTrustDomainBytesMax) return broken("a trust domain has at most 255 bytes");
  if (!std::ranges::all_of(name, is_common)) return broken("a trust domain is of a-z 0-9 - . _, in lower case");
  return {};
}

base::Result<SpiffeId> SpiffeId::parse(std::string_view text) {
  if (text.size() > kIdBytesMax) return broken("a SPIFFE ID has at most 2048 bytes");
  if (!text.starts_with(kScheme)) return broken("a SPIFFE ID begins with spiffe://");
  text.remove_prefix(kScheme.size());
  const std::string_view domain = text.substr(0, text.find('/'));
  const std::string_view path = text.substr(domain.size());
  MESH_CHECK(check_trust_domain(domain));
  MESH_CHECK(check_path(path));
  return SpiffeId{std::string(domain), std::string(path)};
}

std::string SpiffeId::to_string() const { return std::string(kScheme) + trust_domain + path; }

base::Result<SpiffePattern> SpiffePattern::parse(std::string_view text) {
  const bool below = text.ends_with(kBelow);
  if (below) text.remove_suffix(kBelow.size());
  return SpiffePattern{MESH_TRY(SpiffeId::parse(text)), below};
}

bool SpiffePattern::matches(const SpiffeId& other) const {
  if (!below) return other == id;
  return other.trust_domain == id.trust_domain && other.path.size() > id.path.size() + 1 &&
         other.path.starts_with(id.path) && other.path[id.path.size()] == '/';
}

std::string SpiffePattern::to_string() const { return id.to_string() + (below ? std::string(kBelow) : ""); }

}  // namespace mesh::tls
