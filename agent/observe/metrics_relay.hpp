// SPDX-License-Identifier: Apache-2.0
// The part of the metrics page that is about the relay, as it reported last; internal to the metrics page.
#pragma once

#include <vector>

#include "api/relay.hpp"
#include "observe/metric_family.hpp"

namespace mesh::observe {

std::vector<Family> relay_families(const api::RelayView& relay);

}  // namespace mesh::observe
