// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <climits>
#include <string>

namespace mesh::base {

/// What gethostname(2) says; empty if it says nothing.
inline std::string host_name() {
  char host[HOST_NAME_MAX + 1] = {};
  return ::gethostname(host, sizeof(host) - 1) == 0 ? host : "";
}

}  // namespace mesh::base
