// SPDX-License-Identifier: Apache-2.0
// `relay:` of the configuration: what `meshd relay` listens on. Passive values; the agent reads them and hands them on.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "acme/settings.hpp"
#include "base/address.hpp"
#include "tls/server.hpp"

namespace mesh::relay {

enum class Mode : std::uint8_t {
  kTerminate,    ///< TLS ends here; backends get plain bytes.
  kPassthrough,  ///< TLS goes through; only the name that the client asks for is read.
  kOriginate,    ///< Clients of this host send plain bytes; TLS begins here. Not of the configuration's listeners.
  kMutual,       ///< As kOriginate, to relays of other nodes; not of the configuration's listeners.
  kMesh,         ///< Relays of other nodes connect, for workloads here; not a listener that is configured as one.
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

/// Who may have issued the identities of a trust domain.
struct TrustBundle {
  std::string trust_domain;  ///< "example.org"
  std::string bundle;        ///< PEM file of its authorities: several while they are rotated.
  std::string crl;           ///< PEM file of what those revoked, a list of each; empty: not looked at.
  bool operator==(const TrustBundle&) const = default;
};

struct TlsSettings {
  std::vector<CertificatePair> certificates;  ///< The first is the default, for names that no other is for.
  std::vector<TrustBundle> trust;             ///< Not empty: both sides show X509-SVIDs.
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

/// What becomes of connections that come from elsewhere to an endpoint here itself, past the relay: they are plaintext.
enum class Plaintext : std::uint8_t {
  kUnwatched,   ///< Nobody looks.
  kPermissive,  ///< Taken and counted until permissive_until, then refused.
  kRefuse,
};

/// A service whose connections come from other nodes over mutual TLS, to endpoints on this one.
struct MeshService {
  std::string service;             ///< As NameRoute::service.
  std::vector<std::string> allow;  ///< SPIFFE IDs, or with "/*" at the end all below: whose connections are taken.
  bool dry_run = false;            ///< Others are taken too, and counted.
  Plaintext plaintext = Plaintext::kUnwatched;
  std::string permissive_until;  ///< As permission_end() reads it; of kPermissive alone.
  bool operator==(const MeshService&) const = default;
};

/// Mutual TLS between nodes.
struct MeshSettings {
  base::SocketAddress address;  ///< Where relays of other nodes connect; port 0: nowhere.
  CertificatePair identity;     ///< What this node's relay shows: an X509-SVID.
  std::vector<TrustBundle> trust;
  std::vector<MeshService> services;
  Limits limits;
  std::uint16_t port = 15008;  ///< Where relays of other nodes listen.
  bool operator==(const MeshSettings&) const = default;
};

/// Applications of this host that have an identity: all that is set must be so of who made a connection's socket.
struct ClientIdentity {
  std::string id;            ///< SPIFFE ID
  std::string cgroup;        ///< That one, and all below: "/kubepods.slice"; empty: any, as the next.
  std::string unit;          ///< Of the system's manager: "shop.service"
  std::int64_t user = -1;    ///< A number; -1: any.
  CertificatePair identity;  ///< The X509-SVID that says so.
  bool operator==(const ClientIdentity&) const = default;
};

struct Settings {
  std::uint32_t workers = 0;  ///< Threads; 0: one for each CPU that the process may use, at most kWorkersMax.
  std::chrono::seconds drain_timeout{60};  ///< How long a relay that has a successor keeps its connections.
  std::vector<ListenerSettings> listeners;
  Limits originate;  ///< Of each service that TLS begins here for.
  std::vector<ClientIdentity> identities;
  MeshSettings mesh;
  acme::Settings acme;
  bool operator==(const Settings&) const = default;
};

/// The listener that `mesh` asks for.
ListenerSettings mesh_listener(const MeshSettings& mesh);
inline constexpr std::string_view kMeshListener = "mesh";  ///< Its name, which no other may have.
/// What this host's applications of that identity are to other nodes.
TlsSettings client_identity(const MeshSettings& mesh, const ClientIdentity& identity);
/// What relays speak to each other, as ALPN has it: another version is refused in the handshake.
inline constexpr std::string_view kMeshProtocol = "meshd/1";

inline constexpr std::uint32_t kWorkersMax = 64;
inline constexpr std::size_t kListenersMax = 64;
inline constexpr std::size_t kRoutesMax = 1000;  ///< Of one listener.
inline constexpr std::size_t kTrustDomainsMax = 100;
inline constexpr std::size_t kMeshServicesMax = 10'000;
inline constexpr std::size_t kIdentitiesMax = 1000;  ///< Of clients.
inline constexpr std::size_t kAllowedMax = 1000;     ///< Identities of one service.

}  // namespace mesh::relay
