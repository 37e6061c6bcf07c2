// SPDX-License-Identifier: Apache-2.0
#include "discovery/merge.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mesh::discovery {
namespace {

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) { return a->frontend < b->frontend; }

/// One source's services in order, sorted here if the source did not.
struct Cursor {
  const std::vector<model::ServicePtr>* services;
  std::vector<model::ServicePtr> sorted;
  std::size_t next = 0;

  explicit Cursor(const model::Update& update) : services(&update.services) {
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

}  // namespace

model::SnapshotPtr merge(std::span<const UpdatePtr> updates, std::uint64_t generation) {
  auto snapshot = std::make_shared<model::Snapshot>();
  snapshot->generation = generation;
  std::vector<Cursor> cursors;
  std::size_t total = 0;
  for (const UpdatePtr& update : updates) {
    if (!update) continue;
    snapshot->sources.push_back(update->status);
    total += update->services.size();
    cursors.emplace_back(*update);
  }
  snapshot->services.reserve(total);
  std::size_t unlisted = 0;
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
      snapshot->services.push_back(service);
    } else if (snapshot->conflicts.size() < kMaxConflicts) {
      snapshot->conflicts.push_back({service->frontend, describe(*snapshot->services.back()), describe(*service)});
    } else {
      ++unlisted;
    }
  }
  if (unlisted > 0) snapshot->conflicts.push_back({{}, "", std::to_string(unlisted) + " more services"});
  return snapshot;
}

}  // namespace mesh::discovery
