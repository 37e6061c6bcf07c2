// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "discovery/consul.hpp"
#include "discovery/dns.hpp"
#include "discovery/eureka.hpp"
#include "discovery/kubernetes.hpp"
#include "discovery/registry_type.hpp"
#include "discovery/xds.hpp"
#include "discovery/zookeeper.hpp"

namespace mesh::discovery {

std::span<const RegistryType* const> registry_types() {
  static constexpr std::array kTypes = {
      &kDnsRegistry, &kKubernetesRegistry, &kConsulRegistry, &kZookeeperRegistry, &kEurekaRegistry, &kXdsRegistry,
  };
  return kTypes;
}

}  // namespace mesh::discovery
