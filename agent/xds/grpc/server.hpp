// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "xds/library.hpp"

namespace mesh::xds {

base::Result<std::unique_ptr<Server>> open_server(ServerOptions options);

}  // namespace mesh::xds
