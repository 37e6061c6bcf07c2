// SPDX-License-Identifier: Apache-2.0
// What a probe looks like in a file: its keys, which of them mean something for which type, and how they fit together.
#pragma once

#include <cstddef>

#include "discovery/keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

extern const Table kProbeTable;  // model::ProbePolicy

/// Reads a map of keys into a probe that holds what is inherited. After an error in `decoder` the probe is of no use.
void decode_probe(Decoder& decoder, const Value& value, model::ProbePolicy& probe);

/// The keys that mean something for its type: all of them for people, changed ones for the state on disk.
Value encode_probe(const model::ProbePolicy& probe, Secrets secrets);

/// Equal probes have equal hashes.
std::size_t hash_of(const model::ProbePolicy& probe);

}  // namespace mesh::discovery
