// SPDX-License-Identifier: Apache-2.0
#include "discovery/merge.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mesh::discovery {
namespace {

constexpr std::size_t kMaxParts = 64;  ///< As many as there can be sources.

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) { return a->frontend < b->frontend; }

/// One source's services in order, sorted here if the source did not.
struct Cursor {
  const std::vector<model::ServicePtr>* services;
  model::Combine combine;
  std::vector<model::ServicePtr> sorted;
  std::size_t next = 0;

  Cursor(const model::Update& update, model::Combine how) : services(&update.services), combine(how) {
    if (std::is_sorted(services->begin(), services->end(), by_frontend)) return;
    std::vector<std::pair<const model::ServicePtr*, std::size_t>> order;
    order.reserve(services->size());
    for (const model::ServicePtr& service : *services) order.emplace_back(&service, order.size());
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::tie((*a.first)->frontend, a.second) < std::tie((*b.first)->frontend, b.second);
    });
    for (const auto& [service, position] : order) sorted.push_back(*service);
    services = nullptr;
  }
  [[nodiscard]] const std::vector<model::ServicePtr>& list() const { return services != nullptr ? *services : sorted; }
  [[nodiscard]] bool done() const { return next == list().size(); }
  [[nodiscard]] const model::ServicePtr& head() const { return list()[next]; }
};

std::string describe(const model::Service& service) {
  return service.name + " (" + (service.origin.empty() ? service.source : service.origin) + ")";
}

/// Adds the endpoints of a later source; an address that is there already stays as it is.
void add_part(model::Service& service, const model::Service& part, model::Combine combine) {
  const auto number = static_cast<std::uint8_t>(service.parts.size());
  unsigned first_tier = 0;
  if (combine == model::Combine::kFailover) {
    for (const model::Endpoint& endpoint : service.endpoints) first_tier = std::max(first_tier, endpoint.tier + 1U);
  }
  service.parts.push_back({part.source, part.origin, part.only_confirmed});
  if (!service.probe) service.probe = part.probe;
  std::vector<model::Endpoint> endpoints;
  endpoints.reserve(service.endpoints.size() + part.endpoints.size());
  auto known = service.endpoints.begin();
  for (const model::Endpoint& endpoint : part.endpoints) {
    while (known != service.endpoints.end() && known->address < endpoint.address) endpoints.push_back(*known++);
    if (known != service.endpoints.end() && known->address == endpoint.address) continue;
    model::Endpoint& added = endpoints.emplace_back(endpoint);
    added.part = number;
    added.tier = static_cast<std::uint8_t>(std::min(first_tier + endpoint.tier, 255U));
  }
  endpoints.insert(endpoints.end(), known, service.endpoints.end());
  service.endpoints = std::move(endpoints);
}

}  // namespace

model::ServicePtr Merger::combine(std::vector<std::pair<model::ServicePtr, model::Combine>> of,
                                  std::map<model::Frontend, Combined>& next) {
  const model::Frontend frontend = of.front().first->frontend;
  if (const auto known = combined_.find(frontend); known != combined_.end() && known->second.of == of) {
    return next.emplace(frontend, std::move(known->second)).first->second.service;
  }
  model::Service service = *of.front().first;
  service.parts = {{service.source, service.origin, service.only_confirmed}};
  for (std::size_t i = 1; i < of.size(); ++i) {
    add_part(service, *of[i].first, of[i].second);
    service.source += "+" + of[i].first->source;
  }
  auto pointer = std::make_shared<const model::Service>(std::move(service));
  return next.emplace(frontend, Combined{std::move(of), std::move(pointer)}).first->second.service;
}

model::SnapshotPtr Merger::merge(std::span<const Ranked> updates, std::uint64_t generation) {
  auto snapshot = std::make_shared<model::Snapshot>();
  snapshot->generation = generation;
  std::vector<Cursor> cursors;
  std::size_t total = 0;
  for (const auto& [update, combine] : updates) {
    if (!update) continue;
    snapshot->sources.push_back(update->status);
    snapshot->updates.push_back(update);
    total += update->services.size();
    cursors.emplace_back(*update, combine);
  }
  snapshot->services.reserve(total);
  std::size_t unlisted = 0;
  std::map<model::Frontend, Combined> next;
  const Cursor* from = nullptr;  // whose the last one of `group` is
  std::vector<std::pair<model::ServicePtr, model::Combine>> group;
  const auto finish_group = [&] {
    if (group.size() > 1) snapshot->services.back() = combine(std::move(group), next);
    group.clear();
  };
  while (true) {
    // Few sources: looking at each head is cheaper than a heap. On a tie the earlier source is taken first.
    Cursor* least = nullptr;
    for (Cursor& cursor : cursors) {
      if (!cursor.done() && (least == nullptr || by_frontend(cursor.head(), least->head()))) least = &cursor;
    }
    if (least == nullptr) break;
    const model::ServicePtr& service = least->head();
    ++least->next;
    if (snapshot->services.empty() || snapshot->services.back()->frontend != service->frontend) {
      finish_group();
      snapshot->services.push_back(service);
      group.emplace_back(service, model::Combine::kIgnore);
      from = least;
    } else if (least != from && least->combine != model::Combine::kIgnore && group.size() < kMaxParts) {
      group.emplace_back(service, least->combine);
      from = least;
    } else if (snapshot->conflicts.size() < kMaxConflicts) {
      snapshot->conflicts.push_back({service->frontend, describe(*snapshot->services.back()), describe(*service)});
    } else {
      ++unlisted;
    }
  }
  finish_group();
  combined_ = std::move(next);
  if (unlisted > 0) snapshot->conflicts.push_back({{}, "", std::to_string(unlisted) + " more services"});
  return snapshot;
}

}  // namespace mesh::discovery
