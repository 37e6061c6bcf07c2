// SPDX-License-Identifier: Apache-2.0
// The keys of `sources[].dns`.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "discovery/keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

enum class DnsFamily : std::uint8_t { kV4, kV6, kBoth };

/// A service, and the name its endpoints stand under.
struct DnsService {
  std::string name;
  std::string host;             ///< A and AAAA; or
  std::string srv;              ///< SRV: "_http._tcp.orders.example.com".
  unsigned port = 0;            ///< Of the frontend, and with `host` of the endpoints.
  unsigned endpoint_port = 0;   ///< With `host`; 0: as `port`.
  base::SocketAddress address;  ///< Port 0: none is given, the agent's range has one.
  model::Protocol protocol = model::Protocol::kTcp;
  DnsFamily family = DnsFamily::kV4;
};

struct DnsSettings {
  std::vector<std::string> servers;  ///< "10.0.0.53", "[fd00::53]:5353"; empty: those of resolv_conf.
  std::string resolv_conf = "/etc/resolv.conf";
  std::chrono::milliseconds timeout{1000};
  unsigned tries = 2;
  std::chrono::seconds ttl_floor{5};
  std::chrono::seconds ttl_cap{300};
  unsigned negative_confirmations = 2;
  std::vector<DnsService> services;
};

extern const Table kDnsTable;         // DnsSettings
extern const Table kDnsServiceTable;  // DnsService

/// "10.0.0.53", "10.0.0.53:5353", "fd00::53" or "[fd00::53]:5353".
base::Result<base::SocketAddress> parse_dns_server(const std::string& text);

void finish_dns_settings(Decoder& decoder, const Value& value, DnsSettings& settings);

}  // namespace mesh::discovery
