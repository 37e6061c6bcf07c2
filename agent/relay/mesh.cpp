// SPDX-License-Identifier: Apache-2.0
#include "relay/mesh.hpp"

#include <algorithm>

namespace mesh::relay {

std::string_view to_string(MeshReply reply) {
  switch (reply) {
    case MeshReply::kConnected:
      return "connected";
    case MeshReply::kNotAllowed:
      return "not allowed";
    case MeshReply::kNoService:
      return "no such service here";
    case MeshReply::kNotHere:
      return "no endpoint of the service here";
    case MeshReply::kUnreachable:
      return "workload does not answer";
    case MeshReply::kHeader:
      return "header";
  }
  return "other";
}

MeshVerdict judge(const MeshPolicies& policies, std::string_view service, const tls::SpiffeId& client,
                  const base::SocketAddress& destination, const base::IpAddress& reached) {
  const auto policy = policies.find(service);
  if (policy == policies.end()) return {MeshReply::kNoService};
  if (destination.ip != reached || !policy->second.endpoints.contains(destination)) return {MeshReply::kNotHere};
  const bool allowed = std::ranges::any_of(policy->second.allow, [&](const auto& one) { return one.matches(client); });
  if (!allowed && !policy->second.dry_run) return {MeshReply::kNotAllowed};
  return {MeshReply::kConnected, !allowed};
}

bool SaidOnce::first(std::string what) {
  const std::lock_guard lock(mutex_);
  return said_.size() < kMax && said_.insert(std::move(what)).second;
}

}  // namespace mesh::relay
