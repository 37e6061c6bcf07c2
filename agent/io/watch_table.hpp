// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "io/loop.hpp"

namespace mesh::io {

/// The watches of one loop by a number that the kernel carries: a place and how often it was given away, so that an
/// event of a watch that is gone finds nobody. The highest bit is set in every number, and in no descriptor or address.
class WatchTable {
 public:
  static constexpr std::uint64_t kMark = std::uint64_t{1} << 63;
  [[nodiscard]] static bool is_watch(std::uint64_t number) { return (number & kMark) != 0; }

  std::uint64_t add(int fd, Watch& watch) {
    MESH_ASSERT(!watch.watching());
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(places_.size()));
      places_.emplace_back();
    }
    watch.slot_ = free_.back();
    free_.pop_back();
    places_[watch.slot_].watch = &watch;
    places_[watch.slot_].fd = fd;
    return number_of(watch.slot_);
  }
  /// Returns the number it had.
  std::uint64_t remove(Watch& watch) {
    MESH_ASSERT(watch.watching());
    const std::uint32_t slot = watch.slot_;
    const std::uint64_t number = number_of(slot);
    watch.slot_ = Watch::kNone;
    places_[slot].watch = nullptr;
    places_[slot].round = (places_[slot].round + 1) & kRounds;
    free_.push_back(slot);
    return number;
  }
  /// False: it is gone.
  bool tell(std::uint64_t number, unsigned events) {
    Place* const place = find(number);
    if (place == nullptr) return false;
    place->watch->ready(events);
    return true;
  }
  /// Its descriptor; -1: it is gone.
  [[nodiscard]] int fd_of(std::uint64_t number) {
    const Place* const place = find(number);
    return place == nullptr ? -1 : place->fd;
  }

 private:
  static constexpr std::uint32_t kRounds = 0x7fffffff;
  struct Place {
    Watch* watch = nullptr;
    int fd = -1;
    std::uint32_t round = 0;
  };
  [[nodiscard]] std::uint64_t number_of(std::uint32_t slot) const {
    return kMark | static_cast<std::uint64_t>(places_[slot].round) << 32 | slot;
  }
  [[nodiscard]] Place* find(std::uint64_t number) {
    const auto slot = static_cast<std::uint32_t>(number);
    if (slot >= places_.size() || number_of(slot) != number || places_[slot].watch == nullptr) return nullptr;
    return &places_[slot];
  }

  std::vector<Place> places_;
  std::vector<std::uint32_t> free_;
};

}  // namespace mesh::io
