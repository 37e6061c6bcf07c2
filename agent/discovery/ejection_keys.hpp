// SPDX-License-Identifier: Apache-2.0
// What `ejection` looks like in a file: on, off, or a map of keys.
#pragma once

#include "discovery/keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

extern const Table kEjectionTable;  // model::EjectionPolicy

/// Reads on, off or a map into a policy that holds what is inherited; off forgets it.
void decode_ejection(Decoder& decoder, const Value& value, model::EjectionPolicy& policy);

/// All keys for people; on, off or changed keys for the state on disk.
Value encode_ejection(const model::EjectionPolicy& policy, Secrets secrets);

}  // namespace mesh::discovery
