// SPDX-License-Identifier: Apache-2.0
#include "model/routing.hpp"

namespace mesh::model {

std::string_view to_string(Eligibility value) {
  switch (value) {
    case Eligibility::kEligible:
      return "eligible";
    case Eligibility::kPanic:
      return "panic";
    case Eligibility::kDraining:
      return "draining";
    case Eligibility::kWeightZero:
      return "weight_zero";
    case Eligibility::kEjected:
      return "ejected";
    case Eligibility::kProbeDown:
      return "probe_down";
    case Eligibility::kAwaitingCheck:
      return "awaiting_check";
    case Eligibility::kFar:
      return "far";
    case Eligibility::kUnconfirmed:
      return "unconfirmed";
  }
  return "unknown";
}

bool serves(Eligibility value) {
  using enum Eligibility;
  return value == kEligible || value == kPanic || value == kFar;
}

}  // namespace mesh::model
