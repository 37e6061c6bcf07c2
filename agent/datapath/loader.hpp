// SPDX-License-Identifier: Apache-2.0
// The mesh in the kernel, as one object: takes up whatever is pinned in a directory (or makes it), puts this build's
// programs on the configured cgroups, and gives the agent the tables.
//
// Start is one procedure with three outcomes: nothing there: make; tables of this build's shape there: adopt; tables of
// another shape (another layout minor, other sizes): migrate to a new set beside the old one. In each, links are
// updated in place one by one, old and new programs work side by side on equal tables meanwhile, and no connect() falls
// between. Killed at any point, the next start of either build finishes or undoes it. Stopping (destroying the object)
// changes nothing in the kernel (I1).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/bpf_map_store.hpp"
#include "datapath/census.hpp"
#include "datapath/guard.hpp"
#include "datapath/hooks.hpp"
#include "datapath/image.hpp"
#include "datapath/kill.hpp"
#include "datapath/maps.hpp"
#include "datapath/pin_directory.hpp"
#include "datapath/programs.hpp"
#include "mesh_load.h"

namespace mesh::datapath {

struct DatapathOptions {
  std::string directory = "/sys/fs/bpf/meshd";  ///< On a bpffs; made if it isn't there.
  std::string cgroup_root;                      ///< cgroup2 mount; empty: found.
  std::vector<std::string> cgroups;             ///< Below it; nested entries are collapsed.
  TableSizes sizes;
  std::uint64_t exempt_cgroup_id = 0;
  std::string version;  ///< Of this agent, for the control map; cut to 31 bytes.
  ProgramImage image = embedded_image();
  /// Called before each irrevocable step of the start ("pin", "update link /...", "flip current", ...). For tests that
  /// end there; an error aborts the start.
  std::function<base::Result<void>(const std::string& step)> before_step;
};

enum class StartKind : std::uint8_t { kFresh, kAdopted, kMigrated };
std::string_view to_string(StartKind kind);  // "fresh"

/// What `meshctl explain` asks. See mesh_explain.h.
struct ExplainClient {
  std::uint64_t netns_cookie = 0;
  std::uint64_t cgroup_id = 0;
  std::uint32_t uid = 0;
  base::IpAddress source;  ///< Bound address; unspecified: not bound.
};
struct Explanation {
  std::uint32_t service_id = 0;  ///< 0: no service has this frontend.
  std::uint32_t range_id = 0;
  std::uint32_t backend_id = 0;  ///< 0: refused or passed; `reason` says why.
  std::uint32_t backend_generation = 0;
  base::SocketAddress backend;
  std::uint8_t algorithm = 0;  ///< enum mesh_algorithm; 0: no table.
  std::uint8_t hash_key = 0;   ///< enum mesh_hash_key
  std::uint32_t reason = 0;    ///< enum mesh_reason
  bool by_affinity = false;
  std::array<mesh_load, 2> compared{};  ///< backend_id 0: none; the same twice: nothing to compare.
};

/// One set of pinned maps: maps-<number>/.
struct NumberedSet {
  unsigned number = 0;
  MapSet maps;
};

class Datapath {
 public:
  /// Locks the directory, loads, adopts or migrates, attaches. Errors: kConflict (another meshd holds the directory or
  /// a cgroup; says who), kUnsupported (kernel, bpffs or a layout of another major), kExhausted (sizes below what is in
  /// use), kPermission.
  static base::Result<std::unique_ptr<Datapath>> open(DatapathOptions options);
  ~Datapath();

  [[nodiscard]] StartKind start_kind() const { return start_kind_; }
  [[nodiscard]] const MapSet& maps() const { return maps_; }
  [[nodiscard]] BpfMapStore& store() { return *store_; }
  [[nodiscard]] const KernelFeatures& features() const { return features_; }
  [[nodiscard]] const std::vector<std::string>& cgroups() const { return options_.cgroups; }  ///< Collapsed.
  [[nodiscard]] const std::string& cgroup_root() const { return options_.cgroup_root; }
  [[nodiscard]] const std::string& directory() const { return options_.directory; }

  /// Attaches whatever is not attached: cgroups that came (back) into being, links somebody removed, those on
  /// tracepoints too. Cheap when all is well; call it every few seconds. Returns how many links it made.
  base::Result<unsigned> reattach();
  /// Those of each cgroup, then the tracepoints (kTracerPlace) where the kernel has them.
  [[nodiscard]] std::vector<HookStatus> hooks() const;

  /// Written after each plan that was applied whole.
  void record_applied(std::uint64_t generation, base::WallTime when);
  /// Whose connections are left alone besides the agent's own: a cgroup's id. It stays when the agent goes. 0: nobody.
  void exempt_relay(std::uint64_t cgroup_id);
  /// Pass-through of everything, or of one service, until `until_ns` (CLOCK_MONOTONIC; MESH_FOREVER; 0: off).
  void pause_all(std::uint64_t until_ns);
  void pause_service(std::uint32_t service_id, std::uint64_t until_ns);

  /// Resets connections; uses this object's maps and programs.
  [[nodiscard]] base::Result<Killer> make_killer() const;

  /// Looks for sockets of records; likewise.
  [[nodiscard]] base::Result<Census> make_census() const;

  /// Nothing is guarded yet; what an earlier agent guards stays so until the first update. kUnsupported before 5.17.
  [[nodiscard]] base::Result<Guard> make_guard() const;

  /// Removes links, maps and the directory while this object holds the lock. The maps stay readable until it is gone.
  base::Result<void> detach();

  base::Result<Explanation> explain(const mesh_frontend_key& frontend, const ExplainClient& client) const;

 private:
  explicit Datapath(DatapathOptions options, PinDirectory directory);
  base::Result<void> start();
  base::Result<void> load_programs(const MapSet* on, const MapSet* share_with, const std::vector<NumberedSet>& left);
  base::Result<void> pin_new_set(unsigned number);
  base::Result<void> attach_and_switch(unsigned number, const std::vector<NumberedSet>& left);
  enum class Phase : std::uint8_t {
    kAll,      ///< Every hook, when no owner records move.
    kMoving,   ///< The hooks that read and delete records: with the programs that know both owner maps.
    kWriters,  ///< The hooks that choose backends and write records.
    kSettled,  ///< The hooks of kMoving, with their ordinary programs.
  };
  base::Result<void> attach(Phase phase);
  base::Result<void> attach_tracers();
  base::Result<unsigned> reattach_tracers();
  [[nodiscard]] BeforeLink step_before_link() const;
  base::Result<void> step(const std::string& name) const;
  void describe_control();

  DatapathOptions options_;
  PinDirectory directory_;
  KernelFeatures features_;
  std::optional<Programs> programs_;
  MapSet maps_;
  std::unique_ptr<BpfMapStore> store_;
  StartKind start_kind_ = StartKind::kFresh;
};

/// Removes every link, map and the directory itself. Works with the agent dead; kConflict while one holds it.
/// kNotFound if there is nothing.
base::Result<void> detach_all(const std::string& directory);

/// The tables of a mesh, for readers: `meshd dump`, `meshctl status` with the agent dead. Takes no lock.
base::Result<MapSet> open_pinned_maps(const std::string& directory, Access access);

}  // namespace mesh::datapath
