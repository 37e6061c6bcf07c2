// SPDX-License-Identifier: Apache-2.0
// DNS as a registry: resolvers around DnsBook, which decides.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "discovery/dns_book.hpp"
#include "discovery/registry.hpp"
#include "discovery/registry_type.hpp"

namespace mesh::discovery {

class DnsRegistry final : public Registry {
 public:
  DnsRegistry(const DnsSettings& settings, RegistryContext context);

  base::Result<void> run(Feed& feed) override;

 private:
  const DnsSettings settings_;
  DnsBook book_;
};

/// The addresses of the nameserver lines, at most 8; others and what is none are passed over.
std::vector<base::SocketAddress> parse_resolv_conf(std::string_view text);

extern const RegistryType kDnsRegistry;

}  // namespace mesh::discovery
