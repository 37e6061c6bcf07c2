// SPDX-License-Identifier: Apache-2.0
// `sources:` of the configuration: what is the same for all registries. The keys of each kind stand in a table of their
// own: agent/discovery/<type>_keys.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "discovery/registry_type.hpp"
#include "discovery/source_book.hpp"
#include "model/snapshot.hpp"

namespace mesh::discovery {

struct SourceSpec {
  std::string name;  ///< Of [a-z0-9-]; unique.
  std::string type;
  const RegistryType* kind = nullptr;
  std::optional<std::chrono::seconds> max_stale = std::chrono::hours(1);  ///< Nothing: never.
  std::vector<MinEndpoints> min_endpoints;
  model::Combine combine = model::Combine::kIgnore;
  ServicePolicy policy;                  ///< What its services start from.
  std::shared_ptr<const void> settings;  ///< Of `kind`; never null once decoded.

  /// All that its client depends on, as text: a source whose text is unchanged goes on undisturbed by a reload.
  [[nodiscard]] std::string fingerprint() const;
};

/// Of one element of `sources:`; has a key for each kind of registry.
const Table& source_table();

/// Decodes a list of sources and appends them. Names must be unique among all that `sources` has then.
void decode_sources(Decoder& decoder, const Value& list, const ServicePolicy& defaults,
                    std::vector<SourceSpec>& sources);

/// As a map that decodes to the same.
Value encode_source(const SourceSpec& source, Secrets secrets);

}  // namespace mesh::discovery
