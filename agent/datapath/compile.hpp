// SPDX-License-Identifier: Apache-2.0
// From routes to kernel tables: which ids they have, and which writes lead there.
//
// The Compiler keeps what the kernel tables don't say by themselves: which service id belongs to which route, which
// backends belong to which service, what is free and what is in quarantine. It keeps no copy of the tables: it reads
// them through the MapStore. A service whose route pointer did not change costs one comparison; a table that would come
// out as the kernel has it is not written again.
//
// Identity (invariant I3): a service is its frontend, a backend its service and address. Both are in the kernel's
// records, so recover() finds the same ids again after a restart, without a file. A removed endpoint that comes back
// before its id is released gets its old id back.
//
// Contract: every plan is applied before the next one is asked for. When applying fails, or the kernel's tables were
// changed by someone else, this object is stale: recover a new one and compile again.
#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "balance/table.hpp"
#include "datapath/arena.hpp"
#include "datapath/map_store.hpp"
#include "datapath/plan.hpp"
#include "model/routing.hpp"

namespace mesh::datapath {

struct MapUsage {
  std::uint32_t used = 0;         ///< By the tables in force.
  std::uint32_t quarantined = 0;  ///< Given up, not yet usable again.
  std::uint32_t size = 0;         ///< Elements that can be used (id 0 and reserved ones are not counted).
};

struct Usage {
  MapUsage services;
  MapUsage ranges;
  MapUsage backends;
  MapUsage slots;
  std::uint32_t largest_free_run = 0;  ///< Slots; a table needs one run.
};

/// The ids of a routing table in the kernel: for admin views and metrics. Immutable.
struct IdView {
  model::RoutingTablePtr table;
  std::vector<std::uint32_t> service_ids;    ///< Parallel to table->services.
  std::vector<std::uint32_t> first_backend;  ///< Index into backend_ids of the service's first endpoint.
  std::vector<std::uint32_t> backend_ids;    ///< Parallel to the endpoints of all services, one after the other.
};

class Compiler {
 public:
  /// Reads back from the tables what is in force. Everything that nothing in force refers to counts as free at once:
  /// a grace period must have passed since the last write (Writer sees to it). O(size of the maps).
  static base::Result<Compiler> recover(const MapStore& store);

  /// The writes that bring `next` into force. kExhausted, naming map, need, size and setting, if something does not
  /// fit; then nothing has changed, here or there.
  base::Result<Plan> compile(const model::RoutingTablePtr& next);

  /// Whether `table` alone, without what it replaces, would fit; else the kExhausted that compile() would return.
  [[nodiscard]] base::Result<void> fits(const model::RoutingTable& table) const;

  /// The table in force, as of the last compile(); null while a service of it is only known from recover().
  [[nodiscard]] model::RoutingTablePtr table() const { return recovered_ ? nullptr : table_; }

  /// The services in force, never null: as table(), with stand-ins (a frontend and no more) for services that are only
  /// known from recover(). Compiled again, a stand-in stays in the kernel as it is.
  [[nodiscard]] const model::RoutingTablePtr& in_force() const { return table_; }

  /// Closes the batch of what was given up since the last call; 0 if that is nothing. The batch may be released when
  /// a grace period has passed that began after the plans that gave up its contents were applied.
  std::uint32_t seal();

  /// Makes what batches up to `token` hold usable again, and returns the writes that wipe it. Backend ids that `named`
  /// holds (sockets still refer to them), all of them if it is null (not asked), and their services wait for later
  /// calls. `named` was read after the grace period.
  Plan release(std::uint32_t token, const std::unordered_set<std::uint32_t>* named);

  /// Backend ids whose grace period is over and that only wait for sockets.
  [[nodiscard]] std::size_t waiting_for_sockets() const { return waiting_.backends.size(); }

  [[nodiscard]] Usage usage() const;
  [[nodiscard]] std::shared_ptr<const IdView> ids() const;

 private:
  struct Batch {
    std::uint32_t token = 1;
    std::vector<std::uint32_t> services;
    std::vector<std::uint32_t> ranges;
    std::vector<std::uint32_t> backends;
    std::vector<Run> slots;
    [[nodiscard]] bool empty() const { return services.empty() && ranges.empty() && backends.empty() && slots.empty(); }
  };
  struct GoneBackend {
    std::uint32_t id;
    std::uint32_t token;  ///< Batch it was given up in: it may have come back and gone again since.
  };
  struct Waiting {
    std::vector<GoneBackend> backends;
    std::vector<std::uint32_t> services;
  };
  struct Draft;
  enum class Limit : std::uint8_t { kServices, kRanges, kBackends, kSlots };
  using Placed = std::expected<void, Limit>;

  explicit Compiler(const MapStore& store);
  void recover_frontends(const std::vector<std::pair<mesh_frontend_key, std::uint32_t>>& found);
  void recover_backends();
  void recover_tables();

  Placed place(std::uint32_t id, bool is_new, const model::ServiceRoute* old, const model::ServiceRoute& next,
               Draft& draft);
  void place_flags(std::uint32_t id, const model::ServiceRoute& next, Draft& draft) const;
  Placed place_backends(std::uint32_t id, const model::ServiceRoute& next, Draft& draft);
  Placed place_table(std::uint32_t id, bool is_new, const model::ServiceRoute& next, Draft& draft);
  void remove(std::uint32_t id, const model::Frontend& frontend, Draft& draft);
  void give_up_table(std::uint32_t id, Draft& draft) const;
  void commit(Draft& draft, const model::RoutingTablePtr& next);
  void roll_back(const Draft& draft);
  [[nodiscard]] std::unexpected<base::Error> full(Limit limit, const model::RoutingTable& next) const;
  void unlink(std::uint32_t service_id, std::uint32_t backend_id);

  const MapStore* store_;
  model::RoutingTablePtr table_;
  model::RoutingTablePtr recovered_;          // the stand-ins; null when table_ has none of them any more
  std::vector<std::uint32_t> ids_;            // service ids, parallel to table_->services
  std::vector<mesh_frontend_key> strays_;     // elements of frontends that lead to no service of theirs
  std::unordered_set<std::uint32_t> broken_;  // services whose state names no sound table: to be written anew

  // Backends of a service: a list in the order of addresses, threaded through next_backend_.
  std::vector<std::uint32_t> first_backend_;  // by service id; 0: none
  std::vector<std::uint32_t> next_backend_;   // by backend id
  std::vector<std::uint32_t> gone_in_;        // by backend id; 0: in force or free, else token of its batch
  std::uint32_t live_backends_ = 0;

  IdPool services_;
  IdPool ranges_;
  IdPool backends_;
  SlotArena slots_;
  Batch open_;
  std::deque<Batch> sealed_;
  Waiting waiting_;
  std::uint32_t quarantined_ranges_ = 0;
  std::uint32_t quarantined_slots_ = 0;

  // Buffers of place(), kept for their capacity.
  std::vector<std::uint32_t> endpoint_ids_;                   // backend ids, parallel to the endpoints
  std::vector<std::pair<std::uint32_t, mesh_backend>> late_;  // backend writes that follow the state
  std::vector<std::uint16_t> route_weights_;                  // parallel to the endpoints; 0: not usable
  std::vector<mesh_slot> slots_buffer_;
  balance::Table table_buffer_;
};

/// The writes that would bring the kernel from what it has to `table`, for `meshctl bpf diff` and the periodic check
/// (invariant I4: empty right after an apply). Reads everything, changes nothing.
base::Result<Plan> drift(const MapStore& store, const model::RoutingTablePtr& table);

}  // namespace mesh::datapath
