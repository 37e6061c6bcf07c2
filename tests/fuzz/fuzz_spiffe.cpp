// SPDX-License-Identifier: Apache-2.0
// SPIFFE IDs: what is taken is written back as it came, and matches itself and nothing above it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tls/spiffe.hpp"

using namespace mesh::tls;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto pattern = SpiffePattern::parse(text)) {
    if (pattern->to_string() != text || pattern->matches(pattern->id) == pattern->below) std::abort();
  }
  const auto id = SpiffeId::parse(text);
  if (!id) return 0;
  if (id->to_string() != text) std::abort();
  const SpiffePattern whole{{id->trust_domain, ""}, true};
  if (whole.matches(*id) == id->path.empty()) std::abort();
  return 0;
}
