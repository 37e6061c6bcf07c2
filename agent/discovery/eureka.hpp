// SPDX-License-Identifier: Apache-2.0
// The client of Eureka servers: HTTP around EurekaWatch, which decides.
#pragma once

#include <string>
#include <string_view>

#include "discovery/eureka_keys.hpp"
#include "discovery/eureka_watch.hpp"
#include "discovery/registry.hpp"
#include "discovery/registry_type.hpp"

namespace mesh::discovery {

class EurekaRegistry final : public Registry {
 public:
  EurekaRegistry(EurekaSettings settings, RegistryContext context);

  base::Result<void> run(Feed& feed) override;

 private:
  const EurekaSettings settings_;
  EurekaWatch watch_;
};

/// As the Authorization header of HTTP has it (RFC 7617): "Basic ZG9nOmNhdA==" of "dog:cat".
std::string basic_authorization(std::string_view user_and_password);

extern const RegistryType kEurekaRegistry;

}  // namespace mesh::discovery
