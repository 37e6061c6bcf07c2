// SPDX-License-Identifier: Apache-2.0
// What a scale costs: `meshd estimate --services N --endpoints M`.
#pragma once

#include <cstdint>
#include <string>

#include "api/control.hpp"
#include "base/error.hpp"
#include "datapath/map_store.hpp"

namespace mesh::app {

/// Tables for `services` services of `endpoints` endpoints of equal weight each under one algorithm, with room for one
/// update of everything beside what is in force. Sizes are those configured, raised to powers of two where they do not
/// suffice. kInvalid for an unknown algorithm.
base::Result<api::EstimateView> estimate_tables(std::uint64_t services, std::uint64_t endpoints,
                                                const std::string& algorithm_name,
                                                const datapath::TableSizes& configured);

}  // namespace mesh::app
