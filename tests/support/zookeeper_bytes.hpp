// SPDX-License-Identifier: Apache-2.0
// Answers of ZooKeeper as bytes (Jute), for tests of its client.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mesh::test::jute {

template <typename Number>
std::string number(Number value) {
  std::string bytes;
  for (int shift = 8 * (static_cast<int>(sizeof(Number)) - 1); shift >= 0; shift -= 8) {
    bytes += static_cast<char>(static_cast<std::uint64_t>(value) >> shift);
  }
  return bytes;
}

inline std::string text(std::string_view value) {
  return number(static_cast<std::int32_t>(value.size())) + std::string(value);
}

inline std::string framed(const std::string& bytes) { return text(bytes); }

/// Without the length in front.
inline std::string reply(std::int32_t xid, std::int64_t zxid, std::int32_t error, const std::string& body = {}) {
  return number(xid) + number(zxid) + number(error) + body;
}

/// Of a node that was changed at `zxid`.
inline std::string stat(std::int64_t zxid) {
  return number<std::int64_t>(1) + number(zxid) + std::string(8 + 8 + 4 + 4 + 4 + 8 + 4 + 4 + 8, '\0');
}

/// The answer to the first request: a session.
inline std::string welcome(std::int32_t timeout_ms) {
  return framed(number<std::int32_t>(0) + number(timeout_ms) + number<std::int64_t>(1) + text(std::string(16, 'p')) +
                std::string(1, '\0'));
}

}  // namespace mesh::test::jute
