// SPDX-License-Identifier: Apache-2.0
// What `meshctl top` and `stat` make of the counters: differences, rates and quantiles. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/traffic.hpp"
#include "cli/views.hpp"

namespace mesh::cli {

/// The latency below which a share of `quantile` (0 to 1) of the counted ones lie, in us: linear within its bucket,
/// which is off by less than a factor of two. Nothing where nothing was counted.
std::optional<std::uint32_t> quantile_us(const std::vector<std::uint64_t>& buckets, double quantile);

/// What was counted between two answers. A service or a backend that is new, or another under the same id, counts from
/// zero; so does a counter that went back.
api::TrafficList difference(const api::TrafficList& before, const api::TrafficList& after);

/// One line per service and one for each of its backends that had connections. `seconds`: over which the counts are, 0
/// for none in particular, and then no rates. `open` is taken from `totals`.
std::string traffic_text(const api::TrafficList& counts, const api::TrafficList& totals, double seconds,
                         const ViewOptions& options);

}  // namespace mesh::cli
