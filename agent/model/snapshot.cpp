// SPDX-License-Identifier: Apache-2.0
#include "model/snapshot.hpp"

#include <algorithm>

namespace mesh::model {

std::string_view to_string(SourceState state) {
  switch (state) {
    case SourceState::kConnecting:
      return "connecting";
    case SourceState::kSynced:
      return "synced";
    case SourceState::kStale:
      return "stale";
    case SourceState::kFailed:
      return "failed";
  }
  return "unknown";
}

std::string_view to_string(Combine combine) {
  switch (combine) {
    case Combine::kIgnore:
      return "ignore";
    case Combine::kUnion:
      return "union";
    case Combine::kFailover:
      return "failover";
  }
  return "unknown";
}

const ServicePtr* Snapshot::find(const Frontend& frontend) const {
  const auto found =
      std::lower_bound(services.begin(), services.end(), frontend,
                       [](const ServicePtr& service, const Frontend& key) { return service->frontend < key; });
  return found != services.end() && (*found)->frontend == frontend ? &*found : nullptr;
}

}  // namespace mesh::model
