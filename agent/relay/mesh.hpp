// SPDX-License-Identifier: Apache-2.0
// What relays of two nodes say to each other inside of a session of mutual TLS (ALPN "meshd/1"), and which connections
// the backend's relay takes.
//
//   client's relay   -> PROXY protocol header, version 2: source and destination of the application's connection, and
//                       in the value 0xE0 the service, "web:80"
//   backend's relay  -> one byte: a MeshReply. After kConnected both pass on what their sides say; after any other
//                       the connection ends.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/address.hpp"
#include "tls/spiffe.hpp"

namespace mesh::relay {

enum class MeshReply : std::uint8_t {
  kConnected = 0,
  kNotAllowed = 1,   ///< The service's allow-list does not have the client.
  kNoService = 2,    ///< The backend's node does not take connections for this service.
  kNotHere = 3,      ///< The destination is no endpoint of the service, or not where the connection came to.
  kUnreachable = 4,  ///< The workload does not answer.
  kHeader = 5,       ///< The header is none, or says too little.
};
std::string_view to_string(MeshReply reply);  ///< "not allowed", "no such service here", ...; "other" for newer ones.

/// A service that this node takes connections for.
struct MeshPolicy {
  std::vector<tls::SpiffePattern> allow;
  bool dry_run = false;
  std::unordered_set<base::SocketAddress> endpoints;
};
/// By the service's name and port: "web:80".
using MeshPolicies = std::map<std::string, MeshPolicy, std::less<>>;

struct MeshVerdict {
  MeshReply reply = MeshReply::kConnected;
  bool dry_run = false;  ///< Taken for no other reason.
};
/// `reached`: the address of this host that the other relay connected to. Only there a workload is looked for, so that
/// nobody gets further than to the service's endpoints on this very address.
MeshVerdict judge(const MeshPolicies& policies, std::string_view service, const tls::SpiffeId& client,
                  const base::SocketAddress& destination, const base::IpAddress& reached);

/// What was said already and is not to be said again. From any thread.
class SaidOnce {
 public:
  static constexpr std::size_t kMax = 10'000;  ///< Then nothing new is said.
  [[nodiscard]] bool first(std::string what);

 private:
  std::mutex mutex_;
  std::set<std::string> said_;  ///< Guarded by mutex_.
};

}  // namespace mesh::relay
