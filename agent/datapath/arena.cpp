// SPDX-License-Identifier: Apache-2.0
#include "datapath/arena.hpp"

#include <iterator>
#include <ranges>

#include "base/error.hpp"

namespace mesh::datapath {

std::optional<std::uint32_t> IdPool::take() {
  if (fresh_ < size_) return fresh_++;
  if (returned_.empty()) return std::nullopt;
  const std::uint32_t id = returned_.front();
  returned_.pop_front();
  return id;
}

void IdPool::undo(std::span<const std::uint32_t> taken, std::uint32_t fresh) {
  for (const std::uint32_t id : std::views::reverse(taken)) {
    if (id < fresh) returned_.push_front(id);
  }
  fresh_ = fresh;
}

std::optional<std::uint32_t> SlotArena::take(std::uint32_t count) {
  const auto found = by_count_.lower_bound({count, 0});
  if (found == by_count_.end()) return std::nullopt;
  const Run whole{found->second, found->first};
  remove(whole);
  if (whole.count > count) insert({whole.base + count, whole.count - count});
  return whole.base;
}

bool SlotArena::reserve(Run run) {
  auto next = by_base_.upper_bound(run.base);
  if (next == by_base_.begin()) return false;
  const auto holder = std::prev(next);
  const Run whole{holder->first, holder->second};
  const std::uint64_t end = std::uint64_t{run.base} + run.count;
  const std::uint64_t whole_end = std::uint64_t{whole.base} + whole.count;
  if (end > whole_end) return false;
  remove(whole);
  if (run.base > whole.base) insert({whole.base, run.base - whole.base});
  if (whole_end > end) insert({static_cast<std::uint32_t>(end), static_cast<std::uint32_t>(whole_end - end)});
  return true;
}

void SlotArena::give_back(Run run) {
  const auto next = by_base_.lower_bound(run.base);
  Run merged = run;
  if (next != by_base_.end()) {
    MESH_ASSERT(run.base + run.count <= next->first);
    if (run.base + run.count == next->first) {
      const Run neighbour{next->first, next->second};
      merged.count += neighbour.count;
      remove(neighbour);
    }
  }
  const auto after = by_base_.lower_bound(run.base);
  if (after != by_base_.begin()) {
    const auto before = std::prev(after);
    MESH_ASSERT(before->first + before->second <= run.base);
    if (before->first + before->second == run.base) {
      const Run neighbour{before->first, before->second};
      merged = {neighbour.base, neighbour.count + merged.count};
      remove(neighbour);
    }
  }
  insert(merged);
}

void SlotArena::insert(Run run) {
  by_base_.emplace(run.base, run.count);
  by_count_.emplace(run.count, run.base);
  available_ += run.count;
}

void SlotArena::remove(Run run) {
  by_base_.erase(run.base);
  by_count_.erase({run.count, run.base});
  available_ -= run.count;
}

}  // namespace mesh::datapath
