// SPDX-License-Identifier: Apache-2.0
// The effect at the end of the river: brings a RoutingTable into force in the kernel tables.
//
// Not thread-safe: one worker thread calls it. It has a side thread that waits for grace periods, so that an update
// never does. What a finished grace period releases is taken over by the next apply() or tidy().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "datapath/compile.hpp"
#include "datapath/quarantine.hpp"

namespace mesh::datapath {

struct ApplyResult {
  std::uint64_t generation = 0;  ///< Of the routing table that is now in force.
  std::size_t ops = 0;           ///< Writes, without those of releases.
  Plan::Changes changes;
  std::size_t released = 0;  ///< Writes that wiped what had passed the quarantine.
  std::size_t steps = 1;     ///< More than 1: applied piecewise, because old and new did not fit beside each other.
  base::Duration duration{};
};

class Writer {
 public:
  /// How long an apply() that needs room waits for the quarantine, at most; one grace period takes some 10 ms.
  static constexpr base::Duration kSettleMax = std::chrono::seconds(2);

  /// `store` outlives the writer. Waits for one grace period, then recovers what is in force.
  static base::Result<std::unique_ptr<Writer>> open(MapStore& store, std::shared_ptr<Grace> grace, NamedBackends named);

  /// Brings `next` into force. When old and new don't fit beside each other but `next` alone does, it is done in
  /// several steps with grace periods between them, removals first. Errors: kExhausted (nothing was changed, or, in the
  /// stepwise case, only part was brought into force), or the store's. After an error of the store the next call starts
  /// from what the kernel has.
  base::Result<ApplyResult> apply(const model::RoutingTablePtr& next);

  /// Takes over finished releases, and has backend ids that wait for sockets looked at again. To be called every few
  /// seconds. Returns the number of writes.
  base::Result<std::size_t> tidy();

  /// Compares the kernel's tables with the table in force (anti-entropy) and repairs them; the lines say what was
  /// written, none if nothing had to be. `limit` as in Plan::describe().
  base::Result<std::vector<std::string>> repair(std::size_t limit = 100);

  /// What applying `table` would write; changes nothing. For `meshctl bpf diff`.
  [[nodiscard]] base::Result<std::vector<std::string>> diff(const model::RoutingTablePtr& table) const;

  [[nodiscard]] Usage usage() const { return compiler_->usage(); }
  [[nodiscard]] std::shared_ptr<const IdView> ids() const { return compiler_->ids(); }  ///< Built at each call.
  /// Why nothing leaves the quarantine, while that is so.
  [[nodiscard]] const std::optional<base::Error>& release_error() const { return release_error_; }

 private:
  Writer(MapStore& store, std::shared_ptr<Grace> grace, NamedBackends named);
  base::Result<void> recover();
  base::Result<void> apply_whole(const model::RoutingTablePtr& next, ApplyResult& result);
  base::Result<void> apply_in_steps(const model::RoutingTablePtr& next, ApplyResult& result);
  base::Result<void> carry_out(const Plan& plan);
  base::Result<std::size_t> release(std::optional<base::Result<Quarantine::Passed>> outcome);
  base::Result<std::size_t> settle();
  void request_grace();

  MapStore& store_;
  std::shared_ptr<Grace> grace_;
  NamedBackends named_;
  std::optional<Compiler> compiler_;
  std::unique_ptr<Quarantine> quarantine_;
  std::uint32_t sealed_ = 0;    // newest batch a grace period was requested for
  std::uint32_t released_ = 0;  // newest batch that was released
  bool stale_ = false;          // the compiler no longer knows what the kernel has
  std::optional<base::Error> release_error_;
};

}  // namespace mesh::datapath
