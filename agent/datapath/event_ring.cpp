// SPDX-License-Identifier: Apache-2.0
#include "datapath/event_ring.hpp"

#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mesh::datapath {
namespace {

constexpr int kEnough = -ECANCELED;  // ends a drain; the event is consumed all the same

}  // namespace

void EventRing::Close::operator()(ring_buffer* ring) const { ring_buffer__free(ring); }

int EventRing::take(void* context, void* data, std::size_t size) {
  auto& state = *static_cast<State*>(context);
  if (size >= sizeof(mesh_event)) {
    state.visit(*static_cast<const mesh_event*>(data));  // the ring aligns to 8 bytes
  } else {
    mesh_event event{};  // of a build whose records were shorter
    std::memcpy(&event, data, size);
    state.visit(event);
  }
  return --state.left == 0 ? kEnough : 0;
}

base::Result<EventRing> EventRing::open(const MapSet& maps, Visit visit) {
  auto state = std::make_unique<State>(State{std::move(visit)});
  std::unique_ptr<ring_buffer, Close> ring(
      ring_buffer__new(maps.fd(Table::kEvents), &EventRing::take, state.get(), nullptr));
  if (!ring) return base::fail_errno(errno, "open the ring of events");
  const std::size_t most = maps.shape(Table::kEvents).max_entries / sizeof(mesh_event);
  return EventRing(std::move(state), std::move(ring), std::max<std::size_t>(1, most));
}

base::Result<std::size_t> EventRing::drain() {
  state_->left = most_;
  const int result = ring_buffer__consume(ring_.get());
  if (result < 0 && result != kEnough) return base::fail_errno(-result, "read the ring of events");
  return most_ - state_->left;
}

}  // namespace mesh::datapath
