// SPDX-License-Identifier: Apache-2.0
// The client of an xDS control plane: a stream of aggregated discovery around XdsWatch, which decides.
#pragma once

#include "discovery/registry.hpp"
#include "discovery/registry_type.hpp"
#include "discovery/xds_keys.hpp"
#include "discovery/xds_watch.hpp"

namespace mesh::discovery {

class XdsRegistry final : public Registry {
 public:
  XdsRegistry(XdsSettings settings, RegistryContext context);

  base::Result<void> run(Feed& feed) override;

 private:
  const XdsSettings settings_;
  XdsWatch watch_;
};

extern const RegistryType kXdsRegistry;

}  // namespace mesh::discovery
