// SPDX-License-Identifier: Apache-2.0
// Answers questions about the mesh, and passes every other one on as it came, to the resolver it was meant for.
//
// Clients never talk to it by its own address: the hooks send what goes to a resolver (port 53) to 127.0.0.1 or ::1 in
// the client's own network namespace, to the port that stands for this resolver, as long as a socket of ours is there.
// So in each namespace there is a UDP and a TCP socket per resolver, and what is passed on leaves from there.
//
// One thread with a loop of its own. Bounds: kForwardsMax questions under way by UDP, kSessionsMax TCP connections; the
// next one is dropped and counted, and the client asks again, as for any lost datagram.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "io/loop.hpp"
#include "names/zone.hpp"

namespace mesh::names {

inline constexpr std::size_t kForwardsMax = 1024;
inline constexpr std::size_t kSessionsMax = 256;
inline constexpr std::chrono::seconds kForwardTimeout{5};
inline constexpr std::chrono::seconds kSessionTimeout{10};  ///< Without a byte from either side.

/// A resolver that clients of a namespace use, and the loopback port that stands for it.
struct ResolverPort {
  base::SocketAddress resolver;
  std::uint16_t port = 0;
  auto operator<=>(const ResolverPort&) const = default;
};

/// A network namespace with clients.
struct Place {
  std::uint64_t id = 0;  ///< Tells namespaces apart: the inode of /proc/PID/ns/net.
  std::string path;      ///< Where it can be entered: "/proc/PID/ns/net". Empty: the agent's own.
  std::vector<ResolverPort> resolvers;
};

struct ResponderStats {
  std::uint64_t answered = 0;   ///< With at least one record.
  std::uint64_t negative = 0;   ///< Names or types of the mesh that don't exist.
  std::uint64_t forwarded = 0;  ///< Passed on.
  std::uint64_t failed = 0;     ///< Passed on, and the resolver couldn't be reached.
  std::uint64_t timed_out = 0;  ///< Passed on, and not answered in time.
  std::uint64_t dropped = 0;    ///< Too many under way.
  std::uint64_t places = 0;     ///< Namespaces that are served.
  std::uint64_t listeners = 0;  ///< Resolvers that are stood in for, over all of them.
};

class Responder {
 public:
  struct Options {
    /// Makes a socket one that the hooks believe.
    std::function<base::Result<void>(int fd)> mark;
  };

  explicit Responder(Options options);
  ~Responder();

  base::Result<void> start();
  void stop();

  // From any thread; the newest wins.
  void set_zone(std::shared_ptr<const Zone> zone);
  void set_places(std::vector<Place> places);
  [[nodiscard]] ResponderStats stats() const;

 private:
  class Core;
  Options options_;
  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<Core> core_;
  std::thread thread_;
};

}  // namespace mesh::names
