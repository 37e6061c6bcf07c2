// SPDX-License-Identifier: Apache-2.0
// What a client asks for in its first message, without answering it: to route a connection that somebody else
// terminates.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mesh::tls {

/// Bytes, records' headers included, in which a hello must end; real ones have 200 to 2,000.
inline constexpr std::size_t kClientHelloBytesMax = 16 * 1024;
/// Records it may be cut into; real ones have one or two.
inline constexpr std::size_t kClientHelloRecordsMax = 32;

struct ClientHello {
  std::string server_name;        ///< As normal_name() makes it; empty: none was asked for.
  std::vector<std::string> alpn;  ///< In the client's order.
  bool operator==(const ClientHello&) const = default;
};

enum class PeekState { kMore, kHello, kRefused };

struct Peek {
  PeekState state = PeekState::kMore;
  ClientHello hello;           ///< kHello
  std::string_view problem{};  ///< kRefused: "not TLS", "the hello is too long", ...
};

/// `bytes`: all that the client sent so far, from the first on.
Peek peek_client_hello(std::span<const std::byte> bytes);

}  // namespace mesh::tls
