// SPDX-License-Identifier: Apache-2.0
// The listening sockets of services that the relay speaks TLS for: one for each service in each network namespace with
// clients, on loopback. The agent opens them, because it may enter namespaces, marks them, because it may write the
// hooks' maps, and never accepts; the relay gets them and accepts.
//
// A socket keeps its namespace alive: one is closed when no process of an attached cgroup is left in it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/net_namespaces.hpp"

namespace mesh::app {

inline constexpr std::size_t kOutboundNamespacesMax = 256;
inline constexpr std::size_t kOutboundSocketsMax = 4096;  ///< Over all namespaces; both processes hold each.

/// A socket has one service for life: connections that wait in it must not come to mean another.
struct OutboundSocket {
  std::uint64_t place = 0;  ///< base::NetNamespace::id
  base::SocketAddress listen;
  std::string frontend;  ///< Of the service.
  auto operator<=>(const OutboundSocket&) const = default;

  [[nodiscard]] std::string name() const;  ///< "out 4026531840 127.0.0.1:15400 240.64.0.10:443"
  static std::optional<OutboundSocket> parse(std::string_view name);
};

/// By which a relay asks for the owners of sockets in a namespace: "owners 4026531840".
[[nodiscard]] std::string owner_socket_name(std::uint64_t place);
std::optional<std::uint64_t> parse_owner_socket(std::string_view name);

class OutboundSockets {
 public:
  /// Makes a socket one that the hooks believe.
  using Mark = std::function<base::Result<void>(int fd)>;
  explicit OutboundSockets(Mark mark) : mark_(std::move(mark)) {}

  struct Wanted {
    std::string frontend;
    base::SocketAddress listen;
  };
  /// Opens what is missing and closes what is not wanted. True if there are others than before.
  bool update(std::span<const Wanted> wanted, std::span<const base::NetNamespace> places);

  /// Takes over what a relay kept, if it is what its name says: the kernel is asked for namespace and address.
  void adopt(const std::string& name, base::Fd fd);

  /// A sock_diag socket of the namespace that `socket`, one of these, is in.
  base::Result<base::Fd> open_owner_socket(int socket);

  [[nodiscard]] const std::map<OutboundSocket, base::Fd>& all() const { return sockets_; }
  /// Where services are refused, and why; no more than a few.
  [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }

 private:
  base::Result<base::Fd> open(const OutboundSocket& socket, const base::NetNamespace& place);
  base::Result<base::Fd> open_in(int netns, const std::string& where,
                                 const std::function<base::Result<base::Fd>()>& open_it);
  void complain(const base::NetNamespace& place, const Wanted& wanted, const base::Error& error,
                std::set<std::string>& said);

  const Mark mark_;
  base::Fd home_;
  std::map<OutboundSocket, base::Fd> sockets_;
  std::vector<std::string> errors_;
  std::set<std::string> said_;  ///< Complaints in the log, so that each is there once.
};

}  // namespace mesh::app
