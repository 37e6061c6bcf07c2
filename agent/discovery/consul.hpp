// SPDX-License-Identifier: Apache-2.0
// The client of a Consul server or agent: HTTP around ConsulWatch, which decides.
#pragma once

#include "discovery/consul_keys.hpp"
#include "discovery/consul_watch.hpp"
#include "discovery/registry_type.hpp"

namespace mesh::discovery {

class ConsulRegistry final : public Registry {
 public:
  ConsulRegistry(ConsulSettings settings, RegistryContext context);

  base::Result<void> run(Feed& feed) override;

 private:
  const ConsulSettings settings_;
  ConsulWatch watch_;
};

extern const RegistryType kConsulRegistry;

}  // namespace mesh::discovery
