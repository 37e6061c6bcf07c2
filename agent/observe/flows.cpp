// SPDX-License-Identifier: Apache-2.0
#include "observe/flows.hpp"

#include <algorithm>

namespace mesh::observe {
namespace {

constexpr std::array<std::string_view, MESH_OUTCOMES> kNames = {
    "open", "closed", "refused", "timed_out", "unreachable", "aborted", "reset", "lost", "reset_by_us", "killed"};

}  // namespace

std::string_view outcome_name(std::uint8_t outcome) { return outcome < kNames.size() ? kNames[outcome] : "unknown"; }

std::optional<std::uint8_t> outcome_from(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<std::uint8_t>(found - kNames.begin());
}

bool is_failure(std::uint8_t outcome) {
  return outcome == MESH_REFUSED || outcome == MESH_TIMED_OUT || outcome == MESH_UNREACHABLE || outcome == MESH_RESET ||
         outcome == MESH_LOST;
}

void FlowLog::add(const mesh_event& event) {
  const mesh_owner& owner = event.owner;
  const std::lock_guard lock(mutex_);
  if (ring_.size() < capacity_) {
    ring_.push_back(event);
  } else {
    ring_[last_ % capacity_] = event;
  }
  ++last_;
  if (owner.connect_us == 0) return;
  const auto found = backends_.find(owner.backend_id);
  if (found == backends_.end() && backends_.size() >= backends_max_) forget_idle();
  Latencies& latencies = found == backends_.end() ? backends_[owner.backend_id] : found->second;
  const auto newer = static_cast<std::int32_t>(owner.backend_generation - latencies.generation);
  if (newer < 0) return;  // a late sample of the identity that had the id before
  if (newer > 0) latencies = {.generation = owner.backend_generation};
  latencies.last = last_;
  ++latencies.buckets[mesh_latency_bucket(owner.connect_us)];
}

/// Half of the backends: those that have been silent for longest.
void FlowLog::forget_idle() {
  std::vector<std::uint64_t> lasts;
  lasts.reserve(backends_.size());
  for (const auto& [id, latencies] : backends_) lasts.push_back(latencies.last);
  const auto middle = lasts.begin() + static_cast<std::ptrdiff_t>(lasts.size() / 2);
  std::ranges::nth_element(lasts, middle);
  std::erase_if(backends_, [limit = *middle](const auto& entry) { return entry.second.last < limit; });
}

FlowLog::Page FlowLog::read(std::uint64_t after, std::size_t limit, const Match& match) const {
  Page page;
  const std::lock_guard lock(mutex_);
  page.read = last_;
  const std::uint64_t oldest = last_ - ring_.size() + 1;  // past the last one where there is none
  if (after > last_) after = 0;                           // of an agent before this one
  if (after == 0) {
    for (std::uint64_t id = last_; id >= oldest && page.flows.size() < limit; --id) {
      if (match(at(id))) page.flows.push_back({id, at(id)});
    }
    std::ranges::reverse(page.flows);
    page.next = last_;
    return page;
  }
  const std::uint64_t first = std::max(after + 1, oldest);
  page.missed = first - (after + 1);
  page.next = after + page.missed;
  for (std::uint64_t id = first; id <= last_ && page.flows.size() < limit; ++id) {
    if (match(at(id))) page.flows.push_back({id, at(id)});
    page.next = id;
  }
  return page;
}

LatencyBuckets FlowLog::latencies(std::uint32_t backend_id, std::uint32_t generation) const {
  const std::lock_guard lock(mutex_);
  const auto found = backends_.find(backend_id);
  if (found == backends_.end() || found->second.generation != generation) return {};
  return found->second.buckets;
}

}  // namespace mesh::observe
