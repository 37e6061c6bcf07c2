// SPDX-License-Identifier: Apache-2.0
// The header that a proxy puts in front of a connection's bytes, to say who it is for (the PROXY protocol, version 2:
// haproxy.org, doc/proxy-protocol.txt).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/address.hpp"

namespace mesh::relay {

/// A longer header is refused. Ours have less than 200 bytes.
inline constexpr std::size_t kProxyHeaderBytesMax = 4096;

/// What the proxy's TLS session was.
struct ProxyTls {
  std::string version;       ///< "TLSv1.3"
  std::string cipher;        ///< "TLS_AES_128_GCM_SHA256"; empty: not said.
  bool certificate = false;  ///< The client showed one in this session, and it was verified.
  std::string common_name;   ///< Of that certificate; empty: not said.
  bool operator==(const ProxyTls&) const = default;
};

struct ProxyHeader {
  /// Of the connection the proxy accepted. nullopt: the proxy speaks for itself (a health check), or it doesn't know.
  std::optional<base::SocketAddress> source;
  std::optional<base::SocketAddress> destination;
  std::string alpn;
  std::string authority;  ///< The server name the client asked for.
  std::string unique_id;
  std::string service;  ///< "web:80": of the mesh, in a value for own use; see relay/mesh.hpp.
  std::optional<ProxyTls> tls;
  bool operator==(const ProxyHeader&) const = default;
};

/// The bytes. Texts that are too long to fit are left out.
std::string encode(const ProxyHeader& header);

enum class ProxyState { kMore, kHeader, kRefused };

struct ProxyParse {
  ProxyState state = ProxyState::kMore;
  ProxyHeader header;          ///< kHeader
  std::size_t size = 0;        ///< kHeader: bytes it takes; what follows is the client's.
  std::string_view problem{};  ///< kRefused: "no PROXY protocol header", ...
};

/// `bytes`: all that came so far, from the first on.
ProxyParse parse_proxy_header(std::span<const std::byte> bytes);

}  // namespace mesh::relay
