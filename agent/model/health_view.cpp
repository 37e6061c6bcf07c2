// SPDX-License-Identifier: Apache-2.0
#include "model/health_view.hpp"

#include <algorithm>

namespace mesh::model {

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kUnknown:
      return "unknown";
    case Verdict::kUp:
      return "up";
    case Verdict::kDown:
      return "down";
  }
  return "unknown";
}

std::string_view to_string(ProbeReason reason) {
  switch (reason) {
    case ProbeReason::kNone:
      return "none";
    case ProbeReason::kOk:
      return "ok";
    case ProbeReason::kRefused:
      return "refused";
    case ProbeReason::kTimeout:
      return "timeout";
    case ProbeReason::kReset:
      return "reset";
    case ProbeReason::kUnreachable:
      return "unreachable";
    case ProbeReason::kTls:
      return "tls";
    case ProbeReason::kStatus:
      return "status";
    case ProbeReason::kBody:
      return "body";
    case ProbeReason::kGrpc:
      return "grpc";
    case ProbeReason::kProtocol:
      return "protocol";
    case ProbeReason::kLocal:
      return "local";
  }
  return "unknown";
}

const EndpointHealth* ServiceHealth::find(const base::SocketAddress& address) const {
  const auto found = std::lower_bound(
      endpoints.begin(), endpoints.end(), address,
      [](const EndpointHealth& health, const base::SocketAddress& key) { return health.address < key; });
  return found != endpoints.end() && found->address == address ? &*found : nullptr;
}

}  // namespace mesh::model
