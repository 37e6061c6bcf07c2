// SPDX-License-Identifier: Apache-2.0
// What probes know about endpoints. Immutable per service: a transition makes a new ServiceHealth, all others keep
// their pointer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "model/service.hpp"

namespace mesh::model {

enum class Verdict : std::uint8_t {
  kUnknown,  ///< Not probed, or no result yet.
  kUp,
  kDown,
};

enum class ProbeReason : std::uint8_t {
  kNone,
  kOk,
  kRefused,
  kTimeout,
  kReset,
  kUnreachable,
  kTls,
  kStatus,
  kBody,
  kGrpc,
  kProtocol,
  kLocal,
};
std::string_view to_string(Verdict verdict);     // "up"
std::string_view to_string(ProbeReason reason);  // "refused"; kLocal: this node's own trouble (no file descriptor)

struct EndpointHealth {
  base::SocketAddress address;
  Verdict verdict = Verdict::kUnknown;
  ProbeReason reason = ProbeReason::kNone;  ///< Of the last finished probe.
  unsigned streak = 0;                      ///< Equal results in a row up to now.
  base::WallTime since{};                   ///< Of the verdict.
  base::WallTime checked_at{};              ///< End of the last probe when this record was made.
  std::string detail;                       ///< "http 200", "http 503", "certificate expired"; short.
};

struct ServiceHealth {
  Frontend frontend;
  std::vector<EndpointHealth> endpoints;  ///< Sorted by address. Look up by address: the service may be newer.

  [[nodiscard]] const EndpointHealth* find(const base::SocketAddress& address) const;
};

using ServiceHealthPtr = std::shared_ptr<const ServiceHealth>;

/// By frontend; a service that is not probed has no entry.
struct FrontendHash {
  std::size_t operator()(const Frontend& frontend) const noexcept {
    return std::hash<base::SocketAddress>{}(frontend.address) * 2 + (frontend.protocol == Protocol::kUdp ? 1 : 0);
  }
};
using HealthView = std::unordered_map<Frontend, ServiceHealthPtr, FrontendHash>;

}  // namespace mesh::model
