// SPDX-License-Identifier: Apache-2.0
// What a source says: services and their endpoints. Passive and immutable: shared as shared_ptr<const Service>, and an
// unchanged service keeps its pointer from one update to the next. Every later stage (merge, health, route, compile)
// recognises "nothing changed here" by that pointer, so a change costs what it touches.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.hpp"

namespace mesh::model {

enum class Protocol : std::uint8_t { kTcp = 6, kUdp = 17 };  ///< IPPROTO_* values.

/// Values of enum mesh_algorithm.
enum class Algorithm : std::uint8_t {
  kWeightedRandom = 1,
  kRoundRobin = 2,
  kMaglev = 3,
  kSourceHash = 4,
  kLeastConnections = 5,
  kLatency = 6,
};

/// Values of enum mesh_hash_key.
enum class HashKey : std::uint8_t { kNamespace = 1, kCgroup = 2, kUid = 3, kSourceAddress = 4 };

enum class ProbeType : std::uint8_t { kTcp, kHttp, kHttps, kGrpc };
enum class ProbeWhen : std::uint8_t {
  kUsed,  ///< Only while this node sends connections to the service.
  kAlways,
};

/// How the endpoints of a service are probed. Shared between services with equal settings.
struct ProbePolicy {
  ProbeType type = ProbeType::kTcp;
  ProbeWhen when = ProbeWhen::kAlways;
  std::chrono::milliseconds interval{5000};
  std::chrono::milliseconds timeout{1000};        ///< One deadline for the whole probe, connect to last byte.
  std::chrono::milliseconds fast_interval{1000};  ///< While an endpoint is between states.
  unsigned rise = 2;                   ///< Successes in a row to come (back) up; at first sight one is enough.
  unsigned fall = 3;                   ///< Failures in a row to go down.
  unsigned jitter_percent = 10;        ///< Of the interval; probes come that much early, never late.
  bool require_initial_check = false;  ///< An endpoint gets no traffic before its first success.
  std::uint16_t port = 0;              ///< Probe this port instead of the endpoint's; 0: the endpoint's.
  // http, https
  std::string method = "GET";
  std::string path = "/";
  std::string host;                                          ///< Host header; empty: the endpoint's address.
  std::vector<std::pair<std::string, std::string>> headers;  ///< Sent as given, in this order.
  std::vector<std::pair<std::uint16_t, std::uint16_t>> expect{{200, 399}};  ///< Accepted status ranges, inclusive.
  std::string expect_body;  ///< Must occur in the first 16 KiB; empty: not looked at.
  // https, grpc with tls
  bool tls = false;     ///< gRPC over TLS; https implies it.
  std::string sni;      ///< Server name, also the name that is verified; empty: `host` without its port.
  std::string ca_file;  ///< PEM; empty: the system's trust store.
  bool verify = true;   ///< Check chain, name and expiry.
  // grpc
  std::string grpc_service;  ///< Of grpc.health.v1.Health/Check.

  bool operator==(const ProbePolicy&) const = default;
};

/// When an endpoint gets no new connections for a while for what its connections experienced: health/outlier.hpp.
struct EjectionPolicy {
  bool enabled = true;
  unsigned consecutive_failures = 5;           ///< In a row; 0: not looked at.
  unsigned failure_percent = 50;               ///< Of the connections within the window; 0: not looked at.
  std::chrono::milliseconds window{10000};     ///< Of failure_percent.
  unsigned min_connections = 20;               ///< Within the window, for failure_percent to say anything.
  std::chrono::milliseconds base_time{30000};  ///< Out for this long, times the ejections in a row ...
  std::chrono::milliseconds max_time{300000};  ///< ... at most so long.
  unsigned max_percent = 50;                   ///< Of the endpoints that could serve, at most this share is out.
  unsigned probation_percent = 10;             ///< Of its connections, when it comes back.
  unsigned probation_successes = 5;            ///< That end the probation.
  bool count_reset = false;                    ///< Connections cut off by the other side or the network are failures.
  bool count_given_up = false;  ///< So are connects that the application gave up before a SYN was repeated.

  bool operator==(const EjectionPolicy&) const = default;
};

/// Which endpoints are used first.
enum class Preference : std::uint8_t {
  kNone,
  kZone,
  kNode,  ///< Then those of the zone.
};

/// Where something runs, in words that agent and endpoints share; empty: unknown.
struct Place {
  std::string zone;
  std::string node;
};

/// What happens to the connections of endpoints that are down by their probe.
enum class OnDown : std::uint8_t { kLeave, kReset };

/// When connections are ended that applications would keep.
struct DrainPolicy {
  /// How long connections to an endpoint stay that is drained, draining or gone; nothing: for ever.
  std::optional<std::chrono::seconds> timeout = std::chrono::seconds(30);
  OnDown on_down = OnDown::kLeave;
  std::chrono::seconds reset_after{60};  ///< Of being down.
  std::chrono::seconds max_age{0};       ///< Of a connection; 0: any.
  bool operator==(const DrainPolicy&) const = default;
};

/// TLS that the application knows nothing of. Shared between services with equal settings.
enum class TlsMode : std::uint8_t {
  kOriginate,  ///< The relay speaks TLS to the endpoint, which may be anybody's.
  kMutual,     ///< It speaks mutual TLS to the relay of the endpoint's node.
};
struct TlsPolicy {
  TlsMode mode = TlsMode::kOriginate;
  std::string server_name;          ///< To ask for and to verify, a DNS name or an address; empty: the service's name.
  std::string ca;                   ///< PEM file of who may have issued its certificate; empty: the system's.
  std::string certificate;          ///< PEM file of the one that is shown, then its chain; empty: none.
  std::string key;                  ///< PEM file of its private key.
  std::string min_version = "1.2";  ///< "1.2" or "1.3"
  std::vector<std::string> alpn;    ///< Preferred first; empty: not negotiated.
  /// Of kMutual: SPIFFE IDs of the relays that may answer, or with "/*" at the end all below. All else is not of it.
  std::vector<std::string> server_ids;
  bool operator==(const TlsPolicy&) const = default;
};

struct Endpoint {
  base::SocketAddress address;  ///< Port 1 to 65535; same family as the service.
  std::uint16_t weight = 1;     ///< 0: no new connections.
  bool draining = false;        ///< Leaving: no new connections.
  std::string zone{};           ///< Where it runs; empty: unknown.
  std::string node{};
  std::uint8_t tier = 0;  ///< 0: used first; the next ones when what is before has too little.
  std::uint8_t part = 0;  ///< Index into Service::parts, where the service has some.
  bool operator==(const Endpoint&) const = default;
};

/// What identifies a service on this node: the address an application connects to.
struct Frontend {
  base::SocketAddress address;
  Protocol protocol = Protocol::kTcp;

  [[nodiscard]] std::string to_string() const;  ///< "240.64.0.10:80/tcp"
  auto operator<=>(const Frontend&) const = default;
};

/// Who said so, of a service that several sources have.
struct ServicePart {
  std::string source;
  std::string origin;
  bool only_confirmed = false;  ///< As Service::only_confirmed, for its endpoints.
  bool operator==(const ServicePart&) const = default;
};

/// One frontend and its endpoints. A name may stand for several services (one per port and protocol).
struct Service {
  std::string name;  ///< 1 to 253 of [a-z0-9.-/_], as people write it.
  Frontend frontend;
  Algorithm algorithm = Algorithm::kWeightedRandom;
  HashKey hash_key = HashKey::kNamespace;
  std::uint32_t maglev_size = 4093;          ///< A prime.
  std::chrono::seconds affinity_timeout{0};  ///< 0: no session affinity.
  unsigned panic_threshold_percent = 50;     ///< 0: never panic.
  Preference prefer = Preference::kNone;
  unsigned prefer_threshold_percent = 80;  ///< Of a tier's weight; with less usable, connections spill over.
  std::chrono::seconds slow_start{0};      ///< Time in which a new endpoint comes to its weight; 0: at once.
  bool feedback = true;                    ///< Watch what its connections experience.
  /// Endpoints are sockets of the agent in the client's network namespace; where it has none, nothing is redirected.
  bool own_listeners = false;
  /// Likewise of the relay; where it has none, connections are refused: they must not go without TLS.
  bool relay_listeners = false;
  EjectionPolicy ejection;
  DrainPolicy drain;
  std::shared_ptr<const TlsPolicy> tls;      ///< Of TCP; null: bytes are passed as they are.
  std::shared_ptr<const ProbePolicy> probe;  ///< Null: not probed.
  bool only_confirmed = false;               ///< Its source is stale for too long: only endpoints whose probe succeeds.
  std::vector<Endpoint> endpoints;           ///< Sorted by address, no address twice.
  std::vector<ServicePart> parts;            ///< Where several sources were put together; else empty.
  std::string source;                        ///< "file"; which source said so.
  std::string origin;                        ///< Where in it: "meshd.yaml:6".

  /// Equal in all that matters to the datapath and to probes, wherever it was read from (probe compared by value).
  [[nodiscard]] bool same_as(const Service& other) const;
  /// This endpoint is used only while its probe succeeds.
  [[nodiscard]] bool needs_confirmation(const Endpoint& endpoint) const {
    return parts.empty() ? only_confirmed : parts[endpoint.part].only_confirmed;
  }
  /// Its connections go by the relay.
  [[nodiscard]] bool is_relayed() const { return tls != nullptr && frontend.protocol == Protocol::kTcp; }
  [[nodiscard]] bool ejects() const { return ejection.enabled && feedback; }
};

using ServicePtr = std::shared_ptr<const Service>;

std::string_view to_string(Protocol value);   // "tcp"
std::string_view to_string(Algorithm value);  // "round_robin"
std::string_view to_string(HashKey value);    // "namespace"
std::string_view to_string(ProbeType value);  // "http"
std::string_view to_string(ProbeWhen value);  // "used"
std::optional<Protocol> protocol_from(std::string_view text);
std::optional<Algorithm> algorithm_from(std::string_view text);
std::optional<HashKey> hash_key_from(std::string_view text);
std::optional<ProbeType> probe_type_from(std::string_view text);
std::optional<ProbeWhen> probe_when_from(std::string_view text);

}  // namespace mesh::model
