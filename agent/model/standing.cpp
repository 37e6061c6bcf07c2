// SPDX-License-Identifier: Apache-2.0
#include "model/standing.hpp"

#include <algorithm>

namespace mesh::model {

std::string_view to_string(Ejection value) {
  switch (value) {
    case Ejection::kNone:
      return "none";
    case Ejection::kEjected:
      return "ejected";
    case Ejection::kProbation:
      return "probation";
  }
  return "?";
}

const EndpointStanding* ServiceStanding::find(const base::SocketAddress& address) const {
  const auto found = std::ranges::lower_bound(endpoints, address, {}, &EndpointStanding::address);
  return found != endpoints.end() && found->address == address ? &*found : nullptr;
}

}  // namespace mesh::model
