// SPDX-License-Identifier: Apache-2.0
#include "observe/flows.hpp"

#include <algorithm>

namespace mesh::observe {
namespace {

constexpr std::array<std::string_view, MESH_OUTCOMES> kNames = {
    "open", "closed", "refused", "timed_out", "unreachable", "aborted", "reset", "lost", "reset_by_us", "killed"};

std::uint64_t key_of(std::uint32_t backend_id, std::uint32_t generation) {
  return std::uint64_t{generation} << 32 | backend_id;
}

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
  const std::uint64_t key = key_of(owner.backend_id, owner.backend_generation);
  auto found = backends_.find(key);
  if (found == backends_.end()) {
    if (backends_.size() >= kBackendsMax) return;
    found = backends_.emplace(key, LatencyBuckets{}).first;
  }
  ++found->second[mesh_latency_bucket(owner.connect_us)];
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
  const auto found = backends_.find(key_of(backend_id, generation));
  return found == backends_.end() ? LatencyBuckets{} : found->second;
}

}  // namespace mesh::observe
