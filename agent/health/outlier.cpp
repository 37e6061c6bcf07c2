// SPDX-License-Identifier: Apache-2.0
#include "health/outlier.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/duration.hpp"

namespace mesh::health {
namespace {

using model::Ejection;
using model::Eligibility;

constexpr unsigned kWholePercent = 100;

/// "refused"; of several kinds, the one that happened most.
std::string_view main_mishap(const Experience& news) {
  const auto most = std::ranges::max_element(news.mishaps);
  return to_string(static_cast<Mishap>(most - news.mishaps.begin()));
}

bool only_refused(const Experience& news) {
  return news.mishaps[static_cast<std::size_t>(Mishap::kRefused)] == news.failures();
}

bool could_serve(Eligibility one) { return one != Eligibility::kDraining && one != Eligibility::kWeightZero; }

bool is_used(Eligibility one) {
  return one == Eligibility::kEligible || one == Eligibility::kPanic || one == Eligibility::kFar;
}

}  // namespace

std::string_view to_string(Mishap mishap) {
  switch (mishap) {
    case Mishap::kRefused:
      return "refused";
    case Mishap::kTimedOut:
      return "timed out";
    case Mishap::kUnreachable:
      return "unreachable";
    case Mishap::kReset:
      return "cut off";
    case Mishap::kAborted:
      return "given up";
    case Mishap::kTls:
      return "TLS failed";
  }
  return "unknown";
}

std::string_view to_string(EjectionCause cause) {
  switch (cause) {
    case EjectionCause::kConsecutive:
      return "consecutive_failures";
    case EjectionCause::kRate:
      return "failure_rate";
    case EjectionCause::kRelapse:
      return "failed_on_probation";
    case EjectionCause::kTimeUp:
      return "time_up";
    case EjectionCause::kRestart:
      return "agent_restart";
    case EjectionCause::kRecovered:
      return "recovered";
    case EjectionCause::kShare:
      return "share";
    case EjectionCause::kOff:
      return "turned_off";
    case EjectionCause::kGone:
      return "gone";
    case EjectionCause::kWithheld:
      return "withheld";
  }
  return "unknown";
}

std::uint64_t Experience::failures() const { return std::accumulate(mishaps.begin(), mishaps.end(), std::uint64_t{0}); }

/// Empties the buckets that the window has left behind.
void ServiceOutliers::advance(Endpoint& endpoint, const Look& look) {
  const base::Duration width = std::max<base::Duration>(look.policy.window / kBuckets, base::Duration{1});
  const std::int64_t bucket = look.now.time_since_epoch() / width;
  if (bucket - endpoint.bucket >= static_cast<std::int64_t>(kBuckets) || bucket < endpoint.bucket) {
    endpoint.window = {};
  } else {
    for (std::int64_t old = endpoint.bucket + 1; old <= bucket; ++old) {
      endpoint.window[static_cast<std::size_t>(old) % kBuckets] = {};
    }
  }
  endpoint.bucket = bucket;
}

ServiceOutliers::Counts ServiceOutliers::total(const Endpoint& endpoint) {
  Counts sum;
  for (const Counts& counts : endpoint.window) {
    sum.successes += counts.successes;
    sum.failures += counts.failures;
  }
  return sum;
}

void ServiceOutliers::forget_ejections(Endpoint& endpoint, const Look& look) {
  unsigned& ejections = endpoint.aspect.ejections;
  while (ejections > 0) {
    const base::Duration good = std::min(look.policy.base_time * ejections, look.policy.max_time);
    if (look.now - endpoint.good_since < good) return;
    endpoint.good_since += good;
    --ejections;
  }
}

bool ServiceOutliers::may_eject(const base::SocketAddress& address, const Look& look) const {
  const std::vector<model::Endpoint>& all = look.route.service->endpoints;
  std::size_t candidates = 0;
  std::size_t held = 0;  // out or on probation, besides this one
  bool another = false;  // is used
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!could_serve(look.route.eligibility[i])) continue;
    ++candidates;
    if (all[i].address == address) continue;
    const auto known = endpoints_.find(all[i].address);
    const Ejection state = known == endpoints_.end() ? Ejection::kNone : known->second.aspect.state;
    held += state != Ejection::kNone;
    another = another || (is_used(look.route.eligibility[i]) && state != Ejection::kEjected);
  }
  const std::size_t allowed = std::max<std::size_t>(1, candidates * look.policy.max_percent / kWholePercent);
  return another && held < allowed;
}

void ServiceOutliers::eject(const base::SocketAddress& address, Endpoint& endpoint, EjectionCause cause, bool refuses,
                            std::string reason, const Look& look) {
  const auto report = [&](EjectionCause what, const EjectionAspect& aspect) {
    look.changes.push_back({look.route.service, look.route.service->frontend, address, what, aspect});
  };
  if (!may_eject(address, look)) {
    const bool told = std::exchange(endpoint.withheld, true);
    if (told || look.route.service->endpoints.size() == 1) return;
    EjectionAspect aspect = endpoint.aspect;
    aspect.reason = std::move(reason);
    report(EjectionCause::kWithheld, aspect);
    return;
  }
  EjectionAspect aspect{.state = Ejection::kEjected,
                        .refuses = refuses,
                        .ejections = endpoint.aspect.ejections + 1,
                        .share_percent = kWholePercent,
                        .since = look.wall,
                        .until = {},
                        .reason = std::move(reason)};
  const base::Duration time = std::min<base::Duration>(look.policy.base_time * aspect.ejections, look.policy.max_time);
  aspect.until = look.wall + time;
  endpoint = {.aspect = std::move(aspect), .until = look.now + time};
  due_ = std::min(due_, endpoint.until);
  report(cause, endpoint.aspect);
}

void ServiceOutliers::start_probation(Endpoint& endpoint, EjectionCause cause, std::string reason, const Look& look,
                                      const base::SocketAddress& address) {
  endpoint = {.aspect = {.state = Ejection::kProbation,
                         .refuses = false,
                         .ejections = endpoint.aspect.ejections,
                         .share_percent = look.policy.probation_percent,
                         .since = look.wall,
                         .until = {},
                         .reason = std::move(reason)}};
  look.changes.push_back({look.route.service, look.route.service->frontend, address, cause, endpoint.aspect});
}

void ServiceOutliers::note_on_probation(Endpoint& endpoint, const Experience& news, const Look& look) {
  endpoint.opened += news.opened;
  endpoint.successes += news.successes;
  // Clients that waited all the time give up now: a failure says something if a connection opened since may have had
  // it. Those that were established can't; what closed in good order may have been opened before.
  const std::uint64_t established = look.policy.count_reset ? 0 : std::min(endpoint.successes, endpoint.opened);
  if (news.failures() > 0 && endpoint.opened > established) {
    eject(news.endpoint, endpoint, EjectionCause::kRelapse, only_refused(news),
          fmt::format("failed on probation ({})", main_mishap(news)), look);
    return;
  }
  if (std::min(endpoint.successes, endpoint.opened) < look.policy.probation_successes) return;
  const unsigned ejections = endpoint.aspect.ejections;
  endpoint = {.good_since = look.now};
  endpoint.aspect.ejections = ejections;
  look.changes.push_back(
      {look.route.service, look.route.service->frontend, news.endpoint, EjectionCause::kRecovered, endpoint.aspect});
}

void ServiceOutliers::note(const Experience& news, const Look& look) {
  Endpoint& endpoint = endpoints_[news.endpoint];
  if (endpoint.aspect.state == Ejection::kEjected) return;  // of connections from before
  if (endpoint.aspect.state == Ejection::kProbation) {
    note_on_probation(endpoint, news, look);
    return;
  }
  advance(endpoint, look);
  forget_ejections(endpoint, look);
  const std::uint64_t failures = news.failures();
  Counts& counts = endpoint.window[static_cast<std::size_t>(endpoint.bucket) % kBuckets];
  counts.successes += static_cast<std::uint32_t>(news.successes);
  counts.failures += static_cast<std::uint32_t>(failures);
  endpoint.in_row = news.in_row.value_or(news.successes > 0 ? 0 : endpoint.in_row + failures);

  const model::EjectionPolicy& policy = look.policy;
  if (failures > 0 && policy.consecutive_failures > 0 && endpoint.in_row >= policy.consecutive_failures) {
    eject(news.endpoint, endpoint, EjectionCause::kConsecutive, only_refused(news),
          fmt::format("{} connections in a row failed ({})", endpoint.in_row, main_mishap(news)), look);
    return;
  }
  const Counts sum = total(endpoint);
  const std::uint64_t connections = std::uint64_t{sum.successes} + sum.failures;
  const std::uint64_t percent = connections == 0 ? 0 : std::uint64_t{sum.failures} * kWholePercent / connections;
  if (policy.failure_percent > 0 && connections >= policy.min_connections && percent >= policy.failure_percent) {
    if (failures == 0) return;
    eject(news.endpoint, endpoint, EjectionCause::kRate, false,
          fmt::format("{} % of {} connections in {} failed ({})", percent, connections,
                      base::format_duration(policy.window), main_mishap(news)),
          look);
    return;
  }
  endpoint.withheld = false;
}

void ServiceOutliers::end_ejections(const Look& look) {
  if (due_ > look.now) return;
  due_ = base::TimePoint::max();
  for (auto& [address, endpoint] : endpoints_) {
    if (endpoint.aspect.state != Ejection::kEjected) continue;
    if (endpoint.until > look.now) {
      due_ = std::min(due_, endpoint.until);
    } else {
      start_probation(endpoint, EjectionCause::kTimeUp, endpoint.aspect.reason, look, address);
    }
  }
}

void ServiceOutliers::look(base::TimePoint now, base::WallTime wall, const model::ServiceRoute& route,
                           std::span<const Experience> news, EjectionChanges& changes) {
  const Look look{now, wall, route, route.service->ejection, changes};
  end_ejections(look);
  for (const Experience& one : news) {
    const auto known = std::ranges::lower_bound(route.service->endpoints, one.endpoint, {}, &model::Endpoint::address);
    if (known != route.service->endpoints.end() && known->address == one.endpoint) note(one, look);
  }
}

EjectionChange ServiceOutliers::restore(base::WallTime wall, const model::Frontend& frontend,
                                        const base::SocketAddress& address) {
  Endpoint& endpoint = endpoints_[address];
  endpoint.aspect = {.state = Ejection::kProbation,
                     .refuses = false,
                     .ejections = 1,
                     .share_percent = model::EjectionPolicy{}.probation_percent,
                     .since = wall,
                     .until = {},
                     .reason = "was ejected before the agent started"};
  return {nullptr, frontend, address, EjectionCause::kRestart, endpoint.aspect};
}

void ServiceOutliers::follow(const model::Frontend& frontend, const model::ServicePtr& service,
                             EjectionChanges& changes) {
  const bool off = service && !service->ejects();
  for (auto entry = endpoints_.begin(); entry != endpoints_.end();) {
    auto& [address, endpoint] = *entry;
    const bool gone =
        !service || !std::ranges::binary_search(service->endpoints, address, {}, &model::Endpoint::address);
    const bool held = endpoint.aspect.state != Ejection::kNone;
    if (!gone && !off) {
      const bool on_probation = endpoint.aspect.state == Ejection::kProbation;
      if (on_probation && endpoint.aspect.share_percent != service->ejection.probation_percent) {
        endpoint.aspect.share_percent = service->ejection.probation_percent;
        changes.push_back({service, frontend, address, EjectionCause::kShare, endpoint.aspect});
      }
      ++entry;
      continue;
    }
    if (held) changes.push_back({service, frontend, address, gone ? EjectionCause::kGone : EjectionCause::kOff, {}});
    entry = endpoints_.erase(entry);
  }
}

EjectionChanges Outliers::look(base::TimePoint now, base::WallTime wall, const model::RoutingTable& routing,
                               std::span<const ServiceExperience> news) {
  EjectionChanges changes;
  const auto route_of = [&](const model::Frontend& frontend) -> const model::ServiceRoute* {
    const auto found = std::ranges::lower_bound(
        routing.services, frontend, {},
        [](const model::ServiceRoutePtr& route) -> const model::Frontend& { return route->service->frontend; });
    return found != routing.services.end() && (*found)->service->frontend == frontend ? found->get() : nullptr;
  };
  if (followed_ != routing.generation) {
    followed_ = routing.generation;
    for (auto& [frontend, service] : services_) {
      const model::ServiceRoute* route = route_of(frontend);
      service.follow(frontend, route != nullptr ? route->service : nullptr, changes);
    }
    std::erase_if(services_, [](const auto& entry) { return entry.second.empty(); });
  }
  for (auto& [frontend, service] : services_) {
    if (service.due() > now) continue;
    if (const model::ServiceRoute* route = route_of(frontend)) service.look(now, wall, *route, {}, changes);
  }
  for (const ServiceExperience& one : news) {
    const model::ServiceRoute* route = route_of(one.frontend);
    if (route == nullptr || !route->service->ejects()) continue;
    services_[one.frontend].look(now, wall, *route, one.endpoints, changes);
  }
  return changes;
}

EjectionChange Outliers::restore(base::WallTime wall, const model::Frontend& frontend,
                                 const base::SocketAddress& endpoint) {
  return services_[frontend].restore(wall, frontend, endpoint);
}

}  // namespace mesh::health
