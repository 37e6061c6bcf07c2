// SPDX-License-Identifier: Apache-2.0
// What a probed peer may send: an HTTP/1 response, an HTTP/2 conversation, a gRPC health response. The first byte
// chooses the reader and the second the size of the pieces in which the rest arrives.
#include <cstdint>

#include "health/grpc_probe.hpp"
#include "health/http_probe.hpp"

namespace {

using namespace mesh;

constexpr std::size_t kPieceMax = 4096;  // the prober's receive buffer

template <typename Exchange>
void converse(std::span<const std::byte> bytes, std::size_t piece, const model::ProbePolicy& policy) {
  Exchange exchange(policy, {.ip = {}, .port = 80}, "fuzz");
  std::size_t received = 0;
  while (!bytes.empty()) {
    exchange.sent(exchange.output().size());
    const auto part = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(part.size());
    received += part.size();
    if (exchange.feed(part)) return;
    MESH_ASSERT(received < health::kProbeBytesMax);  // the exchange must have ended by itself
    MESH_ASSERT(!exchange.waiting_for().empty());
  }
  MESH_ASSERT(exchange.closed().reason != model::ProbeReason::kNone);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(2);
  const std::size_t piece = data[1] == 0 ? kPieceMax : data[1];
  model::ProbePolicy policy;
  if (data[0] & 4) policy.expect_body = "ok";
  if (data[0] & 8) policy.method = "HEAD";
  switch (data[0] & 3) {
    case 0:
    case 1:
      converse<health::HttpExchange>(bytes, piece, policy);
      break;
    case 2:
      converse<health::GrpcExchange>(bytes, piece, policy);
      break;
    default:
      static_cast<void>(health::serving_status({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
      break;
  }
  return 0;
}
