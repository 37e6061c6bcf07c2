// SPDX-License-Identifier: Apache-2.0
// Watched files: the endpoints of one service, or whole services. JSON (streaming), or YAML by the file's name.
//
//   {"endpoints": [{"address": "10.0.0.1:80", "weight": 2}, "10.0.0.2:80"]}     or only the list
//   {"services": [{"name": "orders", "address": "240.64.0.10:80", "endpoints": [...]}]}
//
// A file without content is an error, never "no endpoints": it is what a writer that was interrupted leaves behind. An
// empty list is meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// The services of one file, sorted by frontend; nothing of it counts if there are errors in `findings`.
struct ParsedFile {
  std::vector<model::ServicePtr> services;
  Findings findings;
  [[nodiscard]] bool good() const { return findings.error_count() == 0; }
};

/// A file of whole services; `defaults` holds for what they don't say.
ParsedFile parse_services(const std::string& path, std::string_view text, const ServicePolicy& defaults);

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
