// SPDX-License-Identifier: Apache-2.0
// Who holds which part of a kernel table: numbers for ids and ranges, runs for slots. Bookkeeping only; what was freed
// here must have passed the quarantine (see plan.hpp).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>

namespace mesh::datapath {

/// Ids first .. size-1. Never-used ones are given out before used ones, and those in the order they came back: the
/// longest possible time passes before an id means something else.
class IdPool {
 public:
  IdPool(std::uint32_t first, std::uint32_t size) : first_(first), fresh_(first), size_(size) {}

  std::optional<std::uint32_t> take();
  void give_back(std::uint32_t id) { returned_.push_back(id); }
  /// Takes back all take()s since `fresh` was read from fresh(): `taken` in the order of taking. Nothing was given back
  /// in between.
  void undo(std::span<const std::uint32_t> taken, std::uint32_t fresh);
  [[nodiscard]] std::uint32_t fresh() const { return fresh_; }
  /// Ids below `id` were used by an earlier agent; those of them that are free are given back one by one.
  void start_fresh_at(std::uint32_t id) { fresh_ = id; }

  [[nodiscard]] std::uint32_t available() const {
    return size_ - fresh_ + static_cast<std::uint32_t>(returned_.size());
  }
  [[nodiscard]] std::uint32_t capacity() const { return size_ - first_; }

 private:
  std::uint32_t first_;
  std::uint32_t fresh_;  ///< This and all above were never used.
  std::uint32_t size_;
  std::deque<std::uint32_t> returned_;
};

struct Run {
  std::uint32_t base = 0;
  std::uint32_t count = 0;
};

/// Slots 0 .. size-1 in runs; neighbours that are free become one run. Best fit: the arena stays in few large pieces.
class SlotArena {
 public:
  explicit SlotArena(std::uint32_t size) : size_(size) {
    if (size > 0) insert({0, size});
  }

  std::optional<std::uint32_t> take(std::uint32_t count);  ///< The base of a run of `count` > 0.
  bool reserve(Run run);                                   ///< False, and nothing done, if not all of it is free.
  void give_back(Run run);

  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint32_t available() const { return available_; }
  [[nodiscard]] std::uint32_t largest_free_run() const { return by_count_.empty() ? 0 : by_count_.rbegin()->first; }

 private:
  void insert(Run run);
  void remove(Run run);

  std::uint32_t size_;
  std::uint32_t available_ = 0;
  std::map<std::uint32_t, std::uint32_t> by_base_;              // base -> count
  std::set<std::pair<std::uint32_t, std::uint32_t>> by_count_;  // {count, base}
};

}  // namespace mesh::datapath
