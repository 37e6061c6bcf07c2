// SPDX-License-Identifier: Apache-2.0
// A plan: the ordered writes that take the kernel tables from what they are to what they shall be.
//
// Why no reader ever sees a half-updated service, or another service's table (invariant I2). A reader is a hook that
// goes frontends -> services -> service_state -> ranges -> slots -> backends and may be preempted between any two
// steps, for as long as it likes; meanwhile any number of writes of this and later plans happen.
//  1. What is new is written where no reader can be: a range, a run of slots, a backend id or a service id that nothing
//     refers to, because it was never used or has passed the quarantine (4). Order inside a service: backends, slots,
//     range, service, then the state, then, for a new service, the frontend. So whatever a reader reaches by a
//     reference is complete: store_state() has release order and the reader's loads depend on each other.
//  2. An update of a service is one aligned 64-bit store: its state, {generation, range}. A reader that loaded the old
//     value goes on in the old range, one that loads the new value in the new range. Ranges, and the slots they name,
//     are not written while a state or a reader may refer to them (4). Nothing else in between decides which table a
//     reader sees. A service without a usable backend refers to MESH_RANGE_EMPTY, which is never written.
//  3. A service that goes loses its frontend, and nothing else: a reader that has its id finds the whole old table. A
//     hash element can be recycled under a reader's feet and lend it the id of another service: that service's record
//     names another frontend, which the reader compares, and takes for "no service".
//  4. What a reader may still refer to (service ids, ranges, slots, backend ids that were given up) is in quarantine
//     until a grace period has passed in which every reader that had begun has ended (see grace.hpp). Only then
//     release plans wipe it and ids are used again; a backend id also waits until no socket's record names it, and then
//     gets another generation, so that affinity entries and UDP peers of its former life don't count.
//  5. Records that readers see are only rewritten with the same identity: a backend's address, port, service and
//     generation keep their bytes while its weight and its flags, aligned words, change. USABLE is set before the state
//     that uses the backend is stored, and cleared after the state that no longer does.
// A crash or an error between any two writes leaves all services before the gap new, all after it old, and at most
// unreferenced garbage, which recover() finds and a later plan cleans up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "datapath/map_store.hpp"

namespace mesh::datapath {

enum class OpKind : std::uint8_t {
  kWriteBackend,
  kWriteSlots,
  kWriteRange,
  kWriteService,
  kStoreState,
  kWriteFrontend,
  kEraseFrontend,
};

/// Ops in order; their values stand in one array per kind, in the same order, to stay small: a cold start of 10,000
/// services has 150,000 ops.
class Plan {
 public:
  struct Changes {
    std::size_t added = 0;
    std::size_t updated = 0;  ///< Services of which anything is written.
    std::size_t removed = 0;
  };
  Changes changes;

  void write_backend(std::uint32_t id, const mesh_backend& backend);
  /// Room for `count` slots at `base`, to be filled by the caller before the next call. `count` > 0.
  mesh_slot* write_slots(std::uint32_t base, std::uint32_t count);
  void write_range(std::uint32_t id, const mesh_range& range);
  void write_service(std::uint32_t id, const mesh_service& service);
  void store_state(std::uint32_t service_id, std::uint64_t state);
  void write_frontend(const mesh_frontend_key& key, std::uint32_t service_id);
  void erase_frontend(const mesh_frontend_key& key);

  [[nodiscard]] bool empty() const { return ops_.empty(); }
  [[nodiscard]] std::size_t size() const { return ops_.size(); }

  /// One line per op, for people: "service 7: state <- generation 4, range 12". At most `limit` lines; if there are
  /// more, one more line says how many.
  [[nodiscard]] std::vector<std::string> describe(std::size_t limit = 10000) const;

 private:
  friend base::Result<void> apply(const Plan& plan, MapStore& store);

  struct Op {
    OpKind kind;
    std::uint32_t id;     ///< Of what is written; the base for slots, the service id for frontends.
    std::uint32_t value;  ///< Index into the array of its kind; for slots the first of `count`.
    std::uint32_t count;
  };
  void add(OpKind kind, std::uint32_t id, std::size_t value, std::uint32_t count = 1);

  std::vector<Op> ops_;
  std::vector<mesh_backend> backends_;
  std::vector<mesh_slot> slots_;
  std::vector<mesh_range> ranges_;
  std::vector<mesh_service> services_;
  std::vector<std::uint64_t> states_;
  std::vector<mesh_frontend_key> frontends_;
};

/// An op that is interrupted (EINTR) is tried again, this many times.
inline constexpr int kInterruptedTriesMax = 100;

/// Carries out the ops in order; stops at the first that fails. Readers are consistent all the same; the caller
/// recovers its Compiler from the store and compiles again.
base::Result<void> apply(const Plan& plan, MapStore& store);

}  // namespace mesh::datapath
