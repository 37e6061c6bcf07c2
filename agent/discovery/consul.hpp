// SPDX-License-Identifier: Apache-2.0
// The client of a Consul server or agent: HTTP around ConsulWatch, which decides.
#pragma once

#include "discovery/consul_keys.hpp"
#include "discovery/consul_watch.hpp"
#include "discovery/registry.hpp"

namespace mesh::discovery {

class ConsulRegistry final : public Registry {
 public:
  /// Services start from `policy`; `seed` is for jitter.
  ConsulRegistry(ConsulSettings settings, ServicePolicy policy, std::uint64_t seed);

  base::Result<void> run(Feed& feed) override;

 private:
  const ConsulSettings settings_;
  ConsulWatch watch_;
};

}  // namespace mesh::discovery
