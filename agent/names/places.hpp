// SPDX-License-Identifier: Apache-2.0
// Where clients are, and which resolvers they use.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "names/responder.hpp"

namespace mesh::names {

inline constexpr std::size_t kPlacesMax = 256;    ///< Network namespaces.
inline constexpr std::size_t kResolversMax = 16;  ///< Over all of them: as many loopback ports.
inline constexpr std::uint16_t kDnsPort = 53;

/// The `nameserver` lines of a resolv.conf(5). Scoped addresses (fe80::1%eth0) are left out.
std::vector<base::SocketAddress> parse_resolv_conf(std::string_view text);

/// A port for each resolver, the same as long as this lives: what a client has sent must still mean the same resolver.
class ResolverPorts {
 public:
  explicit ResolverPorts(std::uint16_t first) : first_(first) {}
  /// 0: there are kResolversMax others.
  std::uint16_t port_of(const base::SocketAddress& resolver);
  [[nodiscard]] const std::map<base::SocketAddress, std::uint16_t>& all() const { return ports_; }

 private:
  std::uint16_t first_;
  std::map<base::SocketAddress, std::uint16_t> ports_;
};

/// A namespace as it was found.
struct FoundPlace {
  std::uint64_t id = 0;
  std::string path;  ///< Empty: the agent's own.
  std::vector<base::SocketAddress> resolvers;
};

/// The network namespaces of the processes below `cgroup_folders` (whole paths), the agent's own first, each with the
/// resolvers of its first process; at most kPlacesMax. `own_folder`: the agent's own leaf, which has no clients. Reads
/// /proc, about 10 us per process: not for a loop.
std::vector<FoundPlace> find_places(const std::vector<std::string>& cgroup_folders, const std::string& own_folder);

}  // namespace mesh::names
