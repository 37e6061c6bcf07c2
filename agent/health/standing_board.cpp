// SPDX-License-Identifier: Apache-2.0
#include "health/standing_board.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace mesh::health {

template <typename T>
void StandingBoard::set(const model::Frontend& frontend, const base::SocketAddress& endpoint, T Aspects::* aspect,
                        T value) {
  Endpoints& endpoints = services_[frontend];
  const auto entry = endpoints.try_emplace(endpoint).first;
  if (entry->second.*aspect != value) {
    entry->second.*aspect = std::move(value);
    changed_.insert(frontend);
  }
  if (entry->second == Aspects{}) endpoints.erase(entry);
  if (endpoints.empty()) services_.erase(frontend);
}

void StandingBoard::set_ejection(const model::Frontend& frontend, const base::SocketAddress& endpoint,
                                 EjectionAspect ejection) {
  if (ejection.state == model::Ejection::kNone) ejection = {};
  set(frontend, endpoint, &Aspects::ejection, std::move(ejection));
}

void StandingBoard::set_drain(const model::Frontend& frontend, const base::SocketAddress& endpoint,
                              std::optional<DrainAspect> drain) {
  set(frontend, endpoint, &Aspects::drain, std::move(drain));
}

void StandingBoard::set_start(const model::Frontend& frontend, const base::SocketAddress& endpoint,
                              unsigned share_percent) {
  set(frontend, endpoint, &Aspects::start_percent, share_percent);
}

model::EndpointStanding StandingBoard::combine(const base::SocketAddress& endpoint, const Aspects& aspects) {
  const EjectionAspect& ejection = aspects.ejection;
  model::EndpointStanding standing{.address = endpoint,
                                   .drained = aspects.drain.has_value(),
                                   .ejection = ejection.state,
                                   .refuses = ejection.refuses,
                                   .ejections = ejection.ejections,
                                   .share_percent = std::min(ejection.share_percent, aspects.start_percent),
                                   .since = ejection.since,
                                   .until = ejection.until,
                                   .reason = ejection.reason};
  if (aspects.drain) {
    standing.since = aspects.drain->since;
    standing.reason = aspects.drain->reason;
  }
  return standing;
}

model::StandingChanges StandingBoard::take_changes() {
  model::StandingChanges changes;
  for (const model::Frontend& frontend : std::exchange(changed_, {})) {
    const auto found = services_.find(frontend);
    if (found == services_.end()) {
      changes.emplace_back(frontend, nullptr);
      continue;
    }
    auto standing = std::make_shared<model::ServiceStanding>();
    standing->frontend = frontend;
    for (const auto& [endpoint, aspects] : found->second) standing->endpoints.push_back(combine(endpoint, aspects));
    changes.emplace_back(frontend, std::move(standing));
  }
  return changes;
}

}  // namespace mesh::health
