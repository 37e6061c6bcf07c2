// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "xds/library.hpp"

namespace mesh::xds {

std::unique_ptr<Stream> open_stream(const StreamOptions& options);

}  // namespace mesh::xds
