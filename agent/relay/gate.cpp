// SPDX-License-Identifier: Apache-2.0
#include "relay/gate.hpp"

#include <algorithm>

namespace mesh::relay {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

}  // namespace

void Gate::set_limits(const Limits& limits) {
  connections_max_ = limits.connections;
  per_source_max_ = limits.connections_per_source;
  token_ns_ = limits.handshakes_per_second == 0 ? 0 : kSecond / limits.handshakes_per_second;
}

/// The generic cell rate algorithm: each takes its share of a second, and a second's worth may come at once.
bool Gate::take_token(base::TimePoint now) {
  const std::int64_t share = token_ns_.load(std::memory_order_relaxed);
  if (share == 0) return true;
  const std::int64_t at = now.time_since_epoch().count();
  std::int64_t paid = paid_until_.load(std::memory_order_relaxed);
  while (true) {
    const std::int64_t next = std::max(paid, at) + share;
    if (next > at + kSecond) return false;
    if (paid_until_.compare_exchange_weak(paid, next, std::memory_order_relaxed)) return true;
  }
}

std::optional<Refusal> Gate::enter(base::TimePoint now) {
  if (active_.fetch_add(1, std::memory_order_relaxed) >= connections_max_.load(std::memory_order_relaxed)) {
    leave();
    return Refusal::kConnections;
  }
  if (!take_token(now)) {
    leave();
    return Refusal::kRate;
  }
  return std::nullopt;
}

Gate::Source Gate::enter_source(const base::IpAddress& source) {
  const std::uint32_t most = per_source_max_.load(std::memory_order_relaxed);
  if (most == 0) return Source::kFree;
  const std::lock_guard lock(mutex_);
  std::uint32_t& count = sources_[source];
  if (count >= most) return Source::kRefused;
  ++count;
  return Source::kCounted;
}

void Gate::leave() { active_.fetch_sub(1, std::memory_order_relaxed); }

void Gate::leave_source(const base::IpAddress& source) {
  const std::lock_guard lock(mutex_);
  const auto found = sources_.find(source);
  if (found != sources_.end() && --found->second == 0) sources_.erase(found);
}

}  // namespace mesh::relay
