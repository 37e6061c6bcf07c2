// SPDX-License-Identifier: Apache-2.0
// The keys of a service that say when its connections are ended; they stand beside its other keys.
#pragma once

#include "discovery/keys.hpp"

namespace mesh::discovery {

extern const Table kDrainTable;  // model::DrainPolicy

}  // namespace mesh::discovery
