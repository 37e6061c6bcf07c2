// SPDX-License-Identifier: Apache-2.0
// The part of the metrics page that grows with services and backends; internal to the metrics page. Busiest services
// first, whole ones, then the series of their backends and the istio_* family, as far as they fit.
#pragma once

#include <cstdint>
#include <vector>

#include "observe/metric_family.hpp"
#include "observe/metrics.hpp"

namespace mesh::observe {

struct ServicePart {
  std::vector<prometheus::MetricFamily> families;
  std::uint64_t dropped = 0;  ///< Series that did not fit.
};
/// `room`: series that may be used.
ServicePart service_part(const MetricsInput& input, std::uint64_t room);

}  // namespace mesh::observe
