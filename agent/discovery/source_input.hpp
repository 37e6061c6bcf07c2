// SPDX-License-Identifier: Apache-2.0
// What the configuration tells the file source: the services that stand in it, and the files to watch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// A `file:` of a service, or an entry of `files:`: something the file source watches.
struct FileReference {
  std::string path;  ///< A file, or a folder whose *.json, *.yaml, *.yml are read.
  model::ServicePtr
      service;  ///< For `file:` of one service: its settings without endpoints. Null: the file has whole services.
};

struct SourceInput {
  std::vector<model::ServicePtr> services;  ///< Inline ones, with endpoints.
  std::vector<FileReference> files;         ///< A service with two protocols has two references to one path.
  ServicePolicy defaults;                   ///< For whole services in files.
  std::optional<base::Error> stale;         ///< Why this input itself is not what the configuration says now.
};

}  // namespace mesh::discovery
