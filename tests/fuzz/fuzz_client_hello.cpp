// SPDX-License-Identifier: Apache-2.0
// First bytes of strangers, as they are peeked at. Whatever is cut must be waited for, and a verdict must not depend on
// what comes after it.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "tls/client_hello.hpp"

using mesh::tls::PeekState;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto whole = mesh::tls::peek_client_hello(bytes);
  if ((whole.state == PeekState::kRefused) == whole.problem.empty()) std::abort();
  if (whole.state == PeekState::kMore && size > mesh::tls::kClientHelloBytesMax) std::abort();
  const auto half = mesh::tls::peek_client_hello(bytes.first(size / 2));
  if (half.state == PeekState::kMore) return 0;
  if (half.state != whole.state || half.hello != whole.hello) std::abort();
  return 0;
}
