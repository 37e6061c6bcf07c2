// SPDX-License-Identifier: Apache-2.0
#include "discovery/registry.hpp"

#include <memory>
#include <utility>

namespace mesh::discovery {

std::vector<model::ServicePtr> share(std::vector<model::Service> services,
                                     const std::vector<model::ServicePtr>& before) {
  std::vector<model::ServicePtr> shared;
  shared.reserve(services.size());
  for (std::size_t i = 0; i < services.size(); ++i) {
    const bool known = i < before.size() && before[i]->origin == services[i].origin && before[i]->same_as(services[i]);
    shared.push_back(known ? before[i] : std::make_shared<const model::Service>(std::move(services[i])));
  }
  return shared;
}

}  // namespace mesh::discovery
