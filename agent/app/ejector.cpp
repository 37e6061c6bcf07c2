// SPDX-License-Identifier: Apache-2.0
#include "app/ejector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "app/change_notes.hpp"
#include "base/log.hpp"
#include "datapath/records.hpp"

namespace mesh::app {
namespace {

using health::EjectionCause;
using health::Mishap;
using model::Ejection;

constexpr base::log::Logger kLog{"ejection"};

const model::ServiceRoute* route_of(const model::RoutingTable& table, const model::Frontend& frontend) {
  const auto key = [](const model::ServiceRoutePtr& route) -> const model::Frontend& {
    return route->service->frontend;
  };
  const auto found = std::ranges::lower_bound(table.services, frontend, {}, key);
  return found != table.services.end() && key(*found) == frontend ? found->get() : nullptr;
}

/// What happened, as one line for people; nothing: not worth telling.
std::string describe(const health::EjectionChange& change) {
  const health::EjectionAspect& aspect = change.aspect;
  switch (change.cause) {
    case EjectionCause::kConsecutive:
    case EjectionCause::kRate:
    case EjectionCause::kRelapse:
      return fmt::format("ejected until {} ({} in a row): {}", base::format_rfc3339(aspect.until), aspect.ejections,
                         aspect.reason);
    case EjectionCause::kTimeUp:
    case EjectionCause::kRestart:
      return fmt::format("on probation with {} % of its connections; {}", aspect.share_percent, aspect.reason);
    case EjectionCause::kRecovered:
      return "back: connections on probation were established";
    case EjectionCause::kOff:
      return "back: ejection was turned off";
    case EjectionCause::kWithheld:
      return fmt::format("not ejected, too many are out or no other is used: {}", aspect.reason);
    case EjectionCause::kShare:
    case EjectionCause::kGone:
      break;
  }
  return {};
}

}  // namespace

health::Experience experience_of(const datapath::BackendNews& backend, model::Protocol protocol,
                                 const model::EjectionPolicy& policy) {
  const datapath::BookNews& news = backend.news;
  health::Experience experience{.endpoint = backend.address, .opened = news.opened};
  const auto mishap = [&](Mishap what) -> std::uint64_t& { return experience.mishaps[static_cast<std::size_t>(what)]; };
  mishap(Mishap::kRefused) = news.ended[MESH_REFUSED];
  mishap(Mishap::kTimedOut) = news.ended[MESH_TIMED_OUT];
  mishap(Mishap::kUnreachable) = news.ended[MESH_UNREACHABLE];
  if (policy.count_reset) mishap(Mishap::kReset) = news.ended[MESH_RESET] + news.ended[MESH_LOST];
  if (policy.count_given_up) mishap(Mishap::kAborted) = news.ended[MESH_ABORTED];
  // A connection that may still be cut off, or a UDP socket, has succeeded when it ended well.
  const bool by_end = protocol == model::Protocol::kUdp || policy.count_reset;
  experience.successes = by_end ? news.ended[MESH_CLOSED] : news.established;
  // The kernel's row is exact, but knows no other failures than those of connect(), and no success of UDP.
  if (!by_end && !policy.count_given_up) experience.in_row = backend.failures_in_row;
  return experience;
}

Ejector::Ejector(datapath::Datapath& datapath, observe::Journal& journal)
    : datapath_(datapath),
      journal_(journal),
      kernel_books_(datapath.maps()),
      books_(kernel_books_, datapath.store(), [this](const model::Frontend& frontend) {
        const model::ServiceRoute* route = route_of(*routing_, frontend);
        return route != nullptr && route->service->ejects();
      }) {}

void Ejector::look(const Watcher::Round& round, const RelayedNews& relayed) {
  if (!std::exchange(restored_, true)) restore(round);
  routing_ = round.reconciled->kernel;
  if (!routing_ || round.reconciled->kernel_generation == 0) return;
  const auto news = books_.look(round.now, round.reconciled->applies);
  if (!news) {
    if (!std::exchange(unreadable_told_, true)) kLog.error("books not read", {{"err", news.error()}});
    return;
  }
  unreadable_told_ = false;
  std::vector<health::ServiceExperience> experience;
  for (const datapath::ServiceNews& service : *news) {
    const model::ServiceRoute* route = route_of(*routing_, service.frontend);
    if (route == nullptr) continue;
    health::ServiceExperience& one = experience.emplace_back(service.frontend);
    for (const datapath::BackendNews& backend : service.backends) {
      one.endpoints.push_back(experience_of(backend, service.frontend.protocol, route->service->ejection));
    }
  }
  // The kernel's table has the relay's port in place of the endpoints behind it.
  const model::RoutingTable& routing = *round.reconciled->routing;
  for (const auto& [key, of] : relayed) {
    const model::ServiceRoute* route = route_of(routing, key.first);
    if (route == nullptr || !route->service->ejects()) continue;
    auto known = std::ranges::find(experience, key.first, &health::ServiceExperience::frontend);
    if (known == experience.end()) known = experience.insert(known, health::ServiceExperience{key.first, {}});
    known->endpoints.push_back(app::experience_of(key.second, of, route->service->ejection));
  }
  for (const auto& change : outliers_.look(round.now, round.wall, routing, experience)) take(change, round.board);
}

/// Who an earlier agent had ejected starts on probation: nobody knows how long it was out.
void Ejector::restore(const Watcher::Round& round) {
  const datapath::BackendIndex index(datapath_.store());
  const auto read = datapath_.store().for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t service_id) {
    for (const auto& [id, backend] : index.of(service_id)) {
      if ((backend.flags & MESH_BACKEND_EJECTED) == 0) continue;
      take(outliers_.restore(round.wall, datapath::frontend_of(key), datapath::address_of(backend)), round.board);
    }
  });
  if (!read) kLog.warn("ejections not restored from the kernel tables", {{"err", read.error()}});
}

void Ejector::take(const health::EjectionChange& change, health::StandingBoard& board) {
  if (change.cause != EjectionCause::kWithheld) board.set_ejection(change.frontend, change.endpoint, change.aspect);
  const std::string text = describe(change);
  if (text.empty()) return;
  count(change);
  const std::string service = change.service ? service_label(*change.service) : change.frontend.to_string();
  const std::string endpoint = change.endpoint.to_string();
  const std::string_view cause = health::to_string(change.cause);
  if (change.cause == EjectionCause::kWithheld) {
    kLog.warn("endpoint not ejected", {{"service", service}, {"endpoint", endpoint}, {"cause", cause}, {"why", text}});
  } else if (change.aspect.state == Ejection::kEjected) {
    kLog.warn("endpoint ejected", {{"service", service}, {"endpoint", endpoint}, {"cause", cause}, {"why", text}});
  } else if (change.aspect.state == Ejection::kProbation) {
    kLog.info("endpoint on probation", {{"service", service}, {"endpoint", endpoint}, {"cause", cause}, {"why", text}});
  } else {
    kLog.info("endpoint back", {{"service", service}, {"endpoint", endpoint}, {"cause", cause}, {"why", text}});
  }
  journal_.note({"", std::string(api::history::kEjection), service, endpoint, text, 1});
}

void Ejector::count(const health::EjectionChange& change) {
  const std::lock_guard lock(mutex_);
  const auto one_more = [&](std::uint64_t observe::EjectionMetrics::* which) { ++(counts_[change.frontend].*which); };
  switch (change.cause) {
    case EjectionCause::kConsecutive:
      return one_more(&observe::EjectionMetrics::consecutive);
    case EjectionCause::kRate:
      return one_more(&observe::EjectionMetrics::rate);
    case EjectionCause::kRelapse:
      return one_more(&observe::EjectionMetrics::relapse);
    case EjectionCause::kWithheld:
      return one_more(&observe::EjectionMetrics::withheld);
    default:
      return;
  }
}

EjectionsByService Ejector::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace mesh::app
