// SPDX-License-Identifier: Apache-2.0
#include "relay/plaintext.hpp"

#include <string>

#include "base/rfc3339.hpp"

namespace mesh::relay {

std::optional<base::WallTime> permission_end(std::string_view text) {
  constexpr std::size_t kDate = std::string_view("2026-12-31").size();
  if (text.size() != kDate) return base::parse_rfc3339(text);
  const auto midnight = base::parse_rfc3339(std::string(text) + "T00:00:00Z");
  if (!midnight) return std::nullopt;
  return *midnight + std::chrono::days(1);
}

PlaintextVerdict judge_plaintext(const MeshService& service, base::WallTime now) {
  switch (service.plaintext) {
    case Plaintext::kUnwatched:
      return {};
    case Plaintext::kRefuse:
      return {.taken = false, .end = {}};
    case Plaintext::kPermissive:
      break;
  }
  const auto end = permission_end(service.permissive_until);
  return {.taken = end && now < *end, .end = end};
}

}  // namespace mesh::relay
