// SPDX-License-Identifier: Apache-2.0
// What this process uses, for the process_* metrics that every Prometheus client exports.
#pragma once

#include <cstdint>

namespace mesh::observe {

struct ProcessUsage {
  double cpu_seconds = 0;  ///< user and system
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;
  double start_time_seconds = 0;  ///< unix time
};

/// From /proc/self; a value that can't be read is 0.
ProcessUsage read_process_usage();

}  // namespace mesh::observe
