// SPDX-License-Identifier: Apache-2.0
// The ring of samples: one mesh_event per connection that ended, best effort. The kernel wakes nobody for it; the
// reader comes by several times a second.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/error.hpp"
#include "datapath/maps.hpp"

struct ring_buffer;

namespace mesh::datapath {

class EventRing {
 public:
  using Visit = std::function<void(const mesh_event&)>;

  /// The ring has one reader at a time: what is taken here nobody else sees. Maps twice the ring's size into memory.
  static base::Result<EventRing> open(const MapSet& maps, Visit visit);

  /// Everything in the ring, oldest first; returns how many. What is written meanwhile is taken too, up to the ring's
  /// size.
  base::Result<std::size_t> drain();

 private:
  struct State {
    Visit visit;
    std::size_t left = 0;  ///< Events that this drain still takes.
  };
  struct Close {
    void operator()(ring_buffer* ring) const;
  };
  EventRing(std::unique_ptr<State> state, std::unique_ptr<ring_buffer, Close> ring, std::size_t most)
      : state_(std::move(state)), ring_(std::move(ring)), most_(most) {}
  static int take(void* state, void* data, std::size_t size);

  std::unique_ptr<State> state_;  ///< Where it is stays: the ring points to it.
  std::unique_ptr<ring_buffer, Close> ring_;
  std::size_t most_;
};

}  // namespace mesh::datapath
