// SPDX-License-Identifier: Apache-2.0
// Headers of the PROXY protocol: a verdict must not depend on what comes after it, and what was read can be written and
// read again.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "relay/proxy_header.hpp"

using namespace mesh::relay;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const ProxyParse whole = parse_proxy_header(bytes);
  const ProxyParse half = parse_proxy_header(bytes.first(size / 2));
  if (half.state != ProxyState::kMore && (half.state != whole.state || half.header != whole.header)) std::abort();
  if (whole.state != ProxyState::kHeader) return 0;
  if (whole.size > size) std::abort();
  const std::string written = encode(whole.header);
  const ProxyParse again = parse_proxy_header(std::as_bytes(std::span(written)));
  if (again.state != ProxyState::kHeader || again.size != written.size()) std::abort();
  if (again.header.source != whole.header.source) std::abort();
  return 0;
}
