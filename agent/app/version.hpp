// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "api/common.hpp"

namespace mesh::app {

inline constexpr std::string_view kVersion = MESH_VERSION;

api::VersionView version_view();

}  // namespace mesh::app
