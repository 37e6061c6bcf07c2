// SPDX-License-Identifier: Apache-2.0
// Watched files: the endpoints of one service, or whole services. JSON (streaming), or YAML by the file's name.
//
//   {"endpoints": [{"address": "10.0.0.1:80", "weight": 2}, "10.0.0.2:80"]}     or only the list
//   {"services": [{"name": "orders", "address": "240.64.0.10:80", "endpoints": [...]}]}
//
// A file without content is an error, never "no endpoints": it is what a writer that was interrupted leaves behind. An
// empty list is meant.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/json_slices.hpp"
#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// An element of a JSON file that was parsed, by its bytes: one service, or one for each protocol.
struct KnownElement {
  SliceHash hash;
  std::array<model::ServicePtr, 2> services;
};

/// The services of one file, sorted by frontend; nothing of it counts if there are errors in `findings`.
struct ParsedFile {
  std::vector<model::ServicePtr> services;
  std::vector<KnownElement> known;  ///< Sorted by hash; for the next time the file is parsed. Empty for YAML.
  Findings findings;
  [[nodiscard]] bool good() const { return findings.error_count() == 0; }
};

/// A file of whole services; `defaults` holds for what they don't say. With what is `known` from the last time, under
/// the same defaults, elements with the same bytes are not parsed again and keep their pointers (and their origin, so
/// its line may be of that time).
ParsedFile parse_services(const std::string& path, std::string_view text, const ServicePolicy& defaults,
                          const std::vector<KnownElement>& known = {});

/// A file of endpoints, for `settings`: one service, or several of one family that share the file.
ParsedFile parse_endpoints(const std::string& path, std::string_view text,
                           const std::vector<model::ServicePtr>& settings);

[[nodiscard]] bool is_yaml_path(std::string_view path);     ///< .yaml, .yml
[[nodiscard]] bool is_service_path(std::string_view path);  ///< Read from a folder: .json, .yaml, .yml, not hidden.

/// A service and where it is written, to check services against each other.
struct PlacedService {
  model::ServicePtr service;
  const Document* document = nullptr;
  Place place{};  ///< Of its address.
  std::size_t index = 0;
};

/// No frontend twice, no endpoint that is a frontend of the same protocol.
void check_against_each_other(const std::vector<PlacedService>& services, Findings& findings);

}  // namespace mesh::discovery
