// SPDX-License-Identifier: Apache-2.0
// Resets connections on purpose: exactly the sockets whose owner records are given, wherever they are.
//
// A socket is known by its cookie and found by walking the sockets of its network namespace: by the iterators of
// bpf/kill.bpf.c (one walk for all backends, in the kernel), or, where the kernel has no bpf_sock_destroy (before 6.5),
// by sock_diag. Either way it is destroyed only if its record still names the same backend and its peer is that
// backend; the application gets ECONNABORTED, and the peer of a TCP connection a reset.
// docs/decisions/0007-kill-path.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/maps.hpp"
#include "datapath/socket_iterator.hpp"

namespace mesh::datapath {

enum class KillOutcome : std::uint8_t {
  kKilled,
  kGone,         ///< Closed, or connected elsewhere, before its turn came.
  kMissed,       ///< Its namespace was walked, but no socket there has that peer any more: it is not connected.
  kRefused,      ///< The kernel did not want to.
  kUnreachable,  ///< Its namespace can't be entered.
};
std::string_view to_string(KillOutcome outcome);  // "killed"

struct KillReport {
  /// A namespace that holds such sockets and was not found: no process is in it, or its processes are not in /proc.
  struct Unreachable {
    mesh_owner example{};  ///< One of its records: says netns_cookie, pid and comm.
    std::size_t sockets = 0;
  };
  std::vector<KillOutcome> outcomes;  ///< Parallel to the records asked for.
  std::vector<Unreachable> unreachable;
  std::size_t namespaces = 0;  ///< Walked.
  std::size_t passes = 0;      ///< More than 1: more than MESH_DOOMED_MAX sockets.
  base::Duration duration{};
  std::optional<base::Error> error;  ///< The first that stood in the way.

  [[nodiscard]] std::size_t count(KillOutcome outcome) const;
};

/// What the kernel programs need; descriptors of somebody else's.
struct KillPrograms {
  int tcp = -1;
  int udp = -1;
  int doomed = -1;  ///< The map.
};

class Killer {
 public:
  /// By sock_diag. `maps` outlives the killer.
  explicit Killer(const MapSet& maps) : maps_(&maps) {}
  static base::Result<Killer> with_iterators(const MapSet& maps, KillPrograms programs);

  [[nodiscard]] bool uses_iterators() const { return tcp_.valid(); }

  /// Blocks while the namespaces concerned are walked, with all of their sockets; `scripts/bench drain` says how long.
  /// Records without feedback don't say where they are, so all namespaces are walked for them. One caller at a time.
  [[nodiscard]] KillReport kill(std::span<const mesh_owner> records) const;

 private:
  struct Met;
  void kill_some(std::span<const mesh_owner> records, KillReport& report) const;
  void walk_iterators(std::span<const mesh_owner> records, Met& met, KillReport& report) const;
  void ask_sock_diag(std::span<const mesh_owner> records, Met& met, KillReport& report) const;

  const MapSet* maps_;
  SocketIterator tcp_;
  SocketIterator udp_;
  int doomed_ = -1;
};

}  // namespace mesh::datapath
