// SPDX-License-Identifier: Apache-2.0
// What a client of the admin socket may send. The first byte is the size of the pieces in which the rest arrives; cut
// differently, the same bytes must be the same requests.
#include <algorithm>
#include <cstdint>

#include "base/error.hpp"
#include "http/h1_server.hpp"

namespace {

using namespace mesh::http;

constexpr ServerLimits kLimits{.header_bytes = 1024, .body_bytes = 1024, .pipelined_bytes = 1U << 20};

std::vector<Request> requests_of(std::span<const std::byte> bytes, std::size_t piece) {
  ServerSession session(kLimits);
  std::vector<Request> requests;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(part.size());
    session.feed(part);
    while (auto request = session.next()) requests.push_back(*std::move(request));
    if (session.refusal()) {
      MESH_ASSERT(*session.refusal() >= 400 && !session.next());
      break;
    }
  }
  return requests;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  const auto whole = requests_of(bytes, bytes.size() + 1);
  const auto pieces = requests_of(bytes, std::max<std::size_t>(data[0], 1));
  for (std::size_t i = 0; i < std::min(whole.size(), pieces.size()); ++i) {
    MESH_ASSERT(whole[i].target == pieces[i].target && whole[i].body == pieces[i].body);
    MESH_ASSERT(whole[i].body.size() <= kLimits.body_bytes);
    MESH_ASSERT(!render({.body = whole[i].target}, {.keep_alive = whole[i].keep_alive}).empty());
  }
  return 0;
}
