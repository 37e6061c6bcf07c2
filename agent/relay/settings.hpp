// SPDX-License-Identifier: Apache-2.0
// `relay:` of the configuration: what `meshd relay` listens on. Passive values; the agent reads them and hands them on.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "tls/server.hpp"

namespace mesh::relay {

enum class Mode : std::uint8_t {
  kTerminate,    ///< TLS ends here; backends get plain bytes.
  kPassthrough,  ///< TLS goes through; only the name that the client asks for is read.
  kOriginate,    ///< Clients of this host send plain bytes; TLS begins here. Not of the configuration's listeners.
};

/// Connections that ask for a name (SNI) go to a service.
struct NameRoute {
  std::string sni;      ///< "shop.example.com", or "*.example.com": of one more label.
  std::string service;  ///< "orders", or "orders:443" where services of several ports have the name.
  bool operator==(const NameRoute&) const = default;
};

/// Either the first two or the third.
struct CertificatePair {
  std::string certificate;  ///< PEM file: the certificate, then its chain.
  std::string key;          ///< PEM file of its private key.
  std::string folder;       ///< With pairs NAME.crt and NAME.key: a mounted secret has tls.crt and tls.key.
  bool operator==(const CertificatePair&) const = default;
};

/// Which certificates clients show.
struct ClientSettings {
  tls::ClientVerify verify = tls::ClientVerify::kNone;
  std::string ca;   ///< PEM file of who may have issued them; needed unless verify is none.
  std::string crl;  ///< PEM file of what those revoked, a list of each; empty: not looked at.
  bool operator==(const ClientSettings&) const = default;
};

struct TlsSettings {
  std::vector<CertificatePair> certificates;  ///< The first is the default, for names that no other is for.
  std::string min_version = "1.2";            ///< "1.2" or "1.3"
  std::vector<std::string> alpn;              ///< Preferred first; empty: not negotiated.
  ClientSettings client;
  bool operator==(const TlsSettings&) const = default;
};

struct ProxyProtocol {
  bool accept = false;  ///< Every connection begins with a header of version 2, or is closed.
  bool send = false;    ///< Backends get one first.
  bool operator==(const ProxyProtocol&) const = default;
};

struct Limits {
  std::uint32_t connections = 20'000;                   ///< At one time.
  std::uint32_t connections_per_source = 0;             ///< Of them, from one address; 0: any number.
  std::uint32_t handshakes_per_second = 0;              ///< Begun, with a burst of as many; 0: any number.
  std::chrono::milliseconds handshake_timeout{10'000};  ///< From accept until bytes are passed to a backend.
  std::chrono::milliseconds connect_timeout{2'000};     ///< Of one backend; then another is tried.
  std::chrono::milliseconds idle_timeout{3'600'000};    ///< Without a byte either way.
  bool operator==(const Limits&) const = default;
};

struct ListenerSettings {
  std::string name;  ///< Of [a-z0-9-]; unique.
  base::SocketAddress address;
  Mode mode = Mode::kTerminate;
  std::string service;            ///< Where connections go that no route is for; empty: they are refused.
  std::vector<NameRoute> routes;  ///< The first that matches; exact names before wildcards.
  TlsSettings tls;
  ProxyProtocol proxy_protocol;
  Limits limits;
  bool operator==(const ListenerSettings&) const = default;
};

struct Settings {
  std::uint32_t workers = 0;  ///< Threads; 0: one for each CPU that the process may use, at most kWorkersMax.
  std::chrono::seconds drain_timeout{60};  ///< How long a relay that has a successor keeps its connections.
  std::vector<ListenerSettings> listeners;
  Limits originate;  ///< Of each service that TLS is originated for.
  bool operator==(const Settings&) const = default;
};

inline constexpr std::uint32_t kWorkersMax = 64;
inline constexpr std::size_t kListenersMax = 64;
inline constexpr std::size_t kRoutesMax = 1000;  ///< Of one listener.

}  // namespace mesh::relay
