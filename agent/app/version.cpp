// SPDX-License-Identifier: Apache-2.0
#include "app/version.hpp"

#include <fmt/format.h>

#include "mesh_abi.h"

namespace mesh::app {

api::VersionView version_view() {
  return {std::string(kVersion), MESH_REVISION, __VERSION__,
          fmt::format("{}.{}", MESH_LAYOUT_MAJOR, MESH_LAYOUT_MINOR)};
}

}  // namespace mesh::app
