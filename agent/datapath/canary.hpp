// SPDX-License-Identifier: Apache-2.0
// The proof behind `meshctl status`: a process that joins a leaf under each attached cgroup and connects to a VIP the
// way an application would, without the agent's exemption. What it reports was done, not inferred.
//
// Three parts. CanaryServer answers on loopback in the agent; its listeners are the endpoints of the canary services.
// CanaryChild is a process of its own (a socket belongs to the cgroup its creator was in, and only whole processes move
// between cgroups), told by one line per check what to do. run_canary_child() is that process.
//
// What one check proves, per cgroup and family: TCP: connect() to the VIP reaches the agent's listener (which sends
// this agent's token) and getpeername() says the VIP. UDP: an unconnected sendto() to the VIP reaches it and recvfrom()
// says the VIP. So connect, sendmsg, recvmsg and getpeername hooks are all effective there.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::datapath {

/// The kinds of connection one check makes, in this order.
enum class CanaryKind : std::uint8_t { kTcp4, kTcp6, kUdp4, kUdp6 };
inline constexpr std::size_t kCanaryKinds = 4;
std::string_view to_string(CanaryKind kind);  // "tcp4"

struct CanaryCheck {
  CanaryKind kind = CanaryKind::kTcp4;
  bool ok = false;
  std::string detail;  ///< Empty when ok: "connect: Network is unreachable", "getpeername shows 127.0.0.1:4242".
};

struct CanaryReport {
  std::string cgroup;  ///< As configured: "/system.slice/shop.service".
  base::WallTime checked_at{};
  std::vector<CanaryCheck> checks;  ///< Empty if the cgroup could not be joined; `error` says why.
  std::string error;
  [[nodiscard]] bool ok() const;
};

/// The listeners behind the canary services: TCP and UDP on 127.0.0.1 and, where the host has it, [::1].
class CanaryServer {
 public:
  /// Opens the listeners on ports the kernel chooses.
  static base::Result<CanaryServer> open();

  struct Listener {
    CanaryKind kind;
    base::SocketAddress address;
    base::Fd fd;  ///< Non-blocking; call serve() when it is readable.
  };
  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  [[nodiscard]] const std::string& token() const { return token_; }

  /// Answers everything that waits on one listener, never blocks.
  void serve(const Listener& listener) const;

 private:
  std::vector<Listener> listeners_;
  std::string token_;  ///< 16 hex digits, random per agent process.
};

struct CanaryTargets {
  std::optional<base::SocketAddress> vip4;
  std::optional<base::SocketAddress> vip6;
};

/// Handle on the canary process. One check at a time: start a request, wait until fd() is readable, take the report.
class CanaryChild {
 public:
  /// Starts /proc/self/exe with the arguments `canary-child FD`. The child dies with the calling thread.
  static base::Result<CanaryChild> spawn();
  CanaryChild(CanaryChild&&) noexcept;
  CanaryChild& operator=(CanaryChild&&) = delete;
  ~CanaryChild();  ///< Ends the child and removes the leaf it was in.

  /// Asks for one check in `<cgroup_root><cgroup>/meshd-canary`, which is made if it is not there.
  base::Result<void> request(const std::string& cgroup_root, const std::string& cgroup, const CanaryTargets& targets,
                             std::string_view token);
  [[nodiscard]] bool busy() const { return !pending_.empty(); }
  [[nodiscard]] int fd() const { return socket_.get(); }
  /// The report of the request that was made, once fd() is readable. kUnavailable if the child died.
  base::Result<CanaryReport> take_report(base::WallTime now);

 private:
  CanaryChild(pid_t pid, base::Fd socket);
  pid_t pid_ = -1;
  base::Fd socket_;
  std::string pending_;              ///< The cgroup of the request under way.
  std::vector<std::string> leaves_;  ///< To be removed at the end.
};

/// The name of the leaf below each attached cgroup. Stable, so that a restarted agent takes it over and detach finds
/// it.
inline constexpr std::string_view kCanaryLeaf = "meshd-canary";

/// Main function of the canary process: serves requests on `fd` until it is closed. Returns the exit code.
int run_canary_child(int fd);

}  // namespace mesh::datapath
