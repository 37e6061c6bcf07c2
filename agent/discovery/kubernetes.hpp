// SPDX-License-Identifier: Apache-2.0
// Services and EndpointSlices of a Kubernetes cluster, by list and watch. The decisions are elsewhere:
// kubernetes_watch.hpp (what to ask next), kubernetes_objects.hpp (what was said), kubernetes_model.hpp (what it
// means).
#pragma once

#include <cstdint>

#include "base/random.hpp"
#include "discovery/kubernetes_access.hpp"
#include "discovery/kubernetes_keys.hpp"
#include "discovery/registry.hpp"
#include "discovery/registry_type.hpp"
#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

class KubernetesRegistry final : public Registry {
 public:
  struct Options {
    std::string source{};  ///< Its name in the configuration.
    ServicePolicy policy;  ///< What services start from.
    model::Place here;     ///< Of this agent; the settings may say otherwise.
    std::uint64_t seed = 0;
    kubernetes::Surroundings around = kubernetes::surroundings();
  };
  KubernetesRegistry(KubernetesSettings settings, Options options)
      : settings_(std::move(settings)), options_(std::move(options)), random_(options_.seed) {}

  base::Result<void> run(Feed& feed) override;

 private:
  const KubernetesSettings settings_;
  const Options options_;
  base::Random random_;
};

extern const RegistryType kKubernetesRegistry;

}  // namespace mesh::discovery
