// SPDX-License-Identifier: Apache-2.0
#include "app/used_services.hpp"

namespace mesh::app {

UsedServices::SetPtr UsedServices::look(
    base::TimePoint now,
    const std::function<void(const std::function<void(const model::Frontend&, std::uint64_t)>&)>& visit) {
  ++round_;
  Set used;
  visit([&](const model::Frontend& frontend, std::uint64_t count) {
    auto [entry, first] = seen_.try_emplace(frontend);
    Seen& seen = entry->second;
    // A count that stood there before the agent did says nothing about now.
    if (!first && count != seen.count) seen.used_at = now;
    seen.count = count;
    seen.round = round_;
    if (seen.used_at != base::TimePoint::min() && now - seen.used_at < kUsedFor) used.insert(frontend);
  });
  std::erase_if(seen_, [&](const auto& entry) { return entry.second.round != round_; });
  if (used == used_) return nullptr;
  used_ = used;
  return std::make_shared<const Set>(std::move(used));
}

}  // namespace mesh::app
