// SPDX-License-Identifier: Apache-2.0
// The names of the mesh: `<service>.mesh` for every service the agent knows, and back. Pure: a snapshot goes in,
// answers come out.
//
//   orders                 orders.mesh         A, AAAA, SRV
//   shop/orders            orders.shop.mesh    what stands before a slash is the wider domain
//   _80._tcp.orders.mesh   SRV of that port; any other word in place of 80 where the service has one TCP port
//   10.0.64.240.in-addr.arpa, ...ip6.arpa      PTR of the addresses that services have
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/snapshot.hpp"
#include "names/message.hpp"

namespace mesh::names {

inline constexpr std::uint32_t kTtlS = 60;         ///< A service keeps its address.
inline constexpr std::uint32_t kNegativeTtlS = 5;  ///< A service that is missing may appear.

/// The name of a service below `domain`; empty where it can't be one ("a//b", a label of more than 63 bytes).
std::string name_of(const std::string& service, const std::string& domain);

class Zone {
 public:
  /// `domain`: "mesh", without dots at its ends. `hidden`: sources whose services have no names.
  Zone(const model::Snapshot& snapshot, std::string domain, const std::vector<std::string>& hidden);

  /// The answer to a question about the mesh; nothing where it is about something else: to be passed on.
  [[nodiscard]] std::optional<Answer> answer(const std::string& name, Type type) const;

  [[nodiscard]] std::size_t size() const { return services_.size(); }

 private:
  struct Port {
    model::Protocol protocol;
    std::uint16_t port;
  };
  struct Entry {
    std::vector<base::IpAddress> addresses;  ///< IPv4 before IPv6, in order, none twice.
    std::vector<Port> ports;                 ///< None twice.
  };
  [[nodiscard]] bool covers(const std::string& name) const;
  [[nodiscard]] Answer answer_service(const std::string& name, const Entry& entry, Type type) const;
  [[nodiscard]] std::optional<Answer> answer_port(const std::string& name, Type type) const;
  void add_addresses(const std::string& name, const Entry& entry, std::vector<Record>& to) const;
  [[nodiscard]] Answer negative(Rcode rcode) const;

  std::string domain_;
  std::unordered_map<std::string, Entry> services_;       ///< By whole name.
  std::unordered_map<std::string, std::string> reverse_;  ///< "10.0.64.240.in-addr.arpa" -> name
  std::unordered_map<std::string, std::size_t> inner_;    ///< Names that only have names below them.
};

/// Whether two snapshots give the same zone. Linear in services, for pointers that are the same a comparison each.
bool same_names(const model::Snapshot& a, const model::Snapshot& b);

/// "10.0.64.240.in-addr.arpa" for 240.64.0.10 (RFC 1035 section 3.5), nibbles below ip6.arpa for IPv6 (RFC 3596).
std::string reverse_name(const base::IpAddress& address);

}  // namespace mesh::names
