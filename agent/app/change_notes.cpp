// SPDX-License-Identifier: Apache-2.0
#include "app/change_notes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/plural.hpp"

namespace mesh::app {
namespace {

using model::Verdict;

/// Walks two ranges that are sorted by `key`, as one: `visit(before or null, after or null)`.
template <typename Range, typename Key>
void walk(const Range& before, const Range& after, Key key, const auto& visit) {
  auto left = before.begin();
  auto right = after.begin();
  while (left != before.end() || right != after.end()) {
    if (right == after.end() || (left != before.end() && key(*left) < key(*right))) {
      visit(&*left++, static_cast<decltype(&*right)>(nullptr));
    } else if (left == before.end() || key(*right) < key(*left)) {
      visit(static_cast<decltype(&*left)>(nullptr), &*right++);
    } else {
      visit(&*left++, &*right++);
    }
  }
}

std::string_view why(const model::EndpointHealth& health) {
  return health.detail.empty() ? model::to_string(health.reason) : std::string_view(health.detail);
}

}  // namespace

std::string service_label(const model::Service& service) { return service.name + ' ' + service.frontend.to_string(); }

std::string service_label(const model::RoutingTablePtr& table, const model::Frontend& frontend) {
  if (!table) return frontend.to_string();
  const auto key = [](const model::ServiceRoutePtr& route) -> const model::Frontend& {
    return route->service->frontend;
  };
  const auto found = std::ranges::lower_bound(table->services, frontend, {}, key);
  return found != table->services.end() && key(*found) == frontend ? service_label(*(*found)->service)
                                                                   : frontend.to_string();
}

void RouteNotes::add(std::string_view kind, const model::Service& service, std::string endpoint, std::string text) {
  if (service.source == ignored_) return;
  if (events_.size() >= kEventsMax) {
    ++more_;
    return;
  }
  events_.push_back({"", std::string(kind), service_label(service), std::move(endpoint), std::move(text), 1});
}

std::vector<api::HistoryEvent> RouteNotes::look(const model::RoutingTablePtr& table) {
  if (!table || table == last_) return {};
  events_.clear();
  more_ = 0;
  if (last_) {
    using Pointer = const model::ServiceRoutePtr*;
    walk(
        last_->services, table->services,
        [](const model::ServiceRoutePtr& route) -> const model::Frontend& { return route->service->frontend; },
        [&](Pointer before, Pointer after) {
          if (after == nullptr) {
            add(api::history::kServiceRemoved, *(*before)->service, "", "");
          } else if (before == nullptr) {
            add(api::history::kServiceAdded, *(*after)->service, "",
                base::counted((*after)->service->endpoints.size(), "endpoint"));
          } else if (*before != *after) {
            compare(**before, **after);
          }
        });
  } else {
    std::size_t services = 0;
    std::size_t endpoints = 0;
    for (const auto& route : table->services) {
      if (route->service->source == ignored_) continue;
      ++services;
      endpoints += route->service->endpoints.size();
    }
    events_.push_back({"", std::string(api::history::kStarted), "", "",
                       fmt::format("the agent started with {}, {}", base::counted(services, "service"),
                                   base::counted(endpoints, "endpoint")),
                       1});
  }
  if (more_ > 0) {
    events_.push_back({"", std::string(api::history::kPlan), "", "", fmt::format("and {} more changes", more_), more_});
  }
  last_ = table;
  return std::move(events_);
}

void RouteNotes::compare(const model::ServiceRoute& before, const model::ServiceRoute& after) {
  const model::Service& service = *after.service;
  if (before.service != after.service) {
    using Pointer = const model::Endpoint*;
    walk(
        before.service->endpoints, service.endpoints, [](const model::Endpoint& one) { return one.address; },
        [&](Pointer left, Pointer right) {
          if (right == nullptr) {
            add(api::history::kEndpointRemoved, service, left->address.to_string(), "");
          } else if (left == nullptr) {
            add(api::history::kEndpointAdded, service, right->address.to_string(),
                fmt::format("weight {}", right->weight));
          } else if (left->draining != right->draining) {
            add(api::history::kDrain, service, right->address.to_string(),
                right->draining ? "its source says draining" : "its source says no longer draining");
          }
        });
  }
  if (after.health && before.health != after.health) {
    for (const model::EndpointHealth& health : after.health->endpoints) {
      const model::EndpointHealth* was = before.health ? before.health->find(health.address) : nullptr;
      const Verdict verdict_before = was == nullptr ? Verdict::kUnknown : was->verdict;
      if (verdict_before == health.verdict || health.verdict == Verdict::kUnknown) continue;
      if (verdict_before == Verdict::kUnknown && health.verdict == Verdict::kUp) continue;  // as it should be
      add(api::history::kProbe, service, health.address.to_string(),
          fmt::format("{} -> {}: {} x{}", model::to_string(verdict_before), model::to_string(health.verdict),
                      why(health), health.streak));
    }
  }
  if (before.panic != after.panic) {
    add(api::history::kPanic, service, "",
        after.panic ? "too few endpoints are usable: all are used" : "over: enough endpoints are usable");
  }
}

std::vector<api::HistoryEvent> PauseNotes::look(const Pauses& pauses, base::TimePoint now) {
  const auto now_ns = static_cast<std::uint64_t>(now.time_since_epoch().count());
  std::vector<api::HistoryEvent> events;
  for (const auto& [label, until_ns] : pauses) {
    if (until_ns > now_ns) {
      running_[label] = until_ns;
    } else if (running_.erase(label) > 0 && until_ns != 0) {
      events.push_back({"", std::string(api::history::kPause), label, "", "over: connects are balanced again", 1});
    }
  }
  std::erase_if(running_, [&](const auto& one) { return !pauses.contains(one.first); });
  return events;
}

std::vector<api::HistoryEvent> RefusalNotes::look(const std::vector<Count>& counts, const Label& label,
                                                  base::TimePoint now) {
  std::vector<api::HistoryEvent> events;
  const bool first = !std::exchange(looked_, true);
  for (const Count& count : counts) {
    const Seen before = first ? Seen{count.refused, count.no_backend, now} : Seen{0, 0, now};
    const auto [found, fresh] = seen_.try_emplace(count.service_id, before);
    Seen& seen = found->second;
    if (count.refused < seen.refused) seen = {0, 0, now};  // the id was given to another service
    if (count.refused == seen.refused || now < seen.next) continue;
    const std::uint64_t refused = count.refused - seen.refused;
    const std::uint64_t no_backend = std::min(refused, count.no_backend - seen.no_backend);
    std::string text = no_backend > 0 ? base::counted(no_backend, "connect") + ": no usable backend" : "";
    if (no_backend < refused) {
      text += fmt::format("{}{}: `meshctl bpf stats` has the reasons", text.empty() ? "" : ", ",
                          base::counted(refused - no_backend, "connect"));
    }
    events.push_back({"", std::string(api::history::kRefused), label(count.service_id), "", std::move(text), refused});
    seen = {count.refused, count.no_backend, now + kWindow};
  }
  return events;
}

}  // namespace mesh::app
