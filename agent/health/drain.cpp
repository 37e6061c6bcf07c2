// SPDX-License-Identifier: Apache-2.0
#include "health/drain.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <iterator>

#include "base/random.hpp"

namespace mesh::health {
namespace {

model::Frontend frontend_of(const mesh_owner& record) {
  model::Frontend frontend;
  std::ranges::copy(record.frontend_addr, frontend.address.ip.bytes.begin());
  frontend.address.port = ntohs(record.frontend_port_be);
  frontend.protocol = record.proto == IPPROTO_UDP ? model::Protocol::kUdp : model::Protocol::kTcp;
  return frontend;
}

base::SocketAddress backend_of(const mesh_owner& record) {
  base::SocketAddress address;
  std::ranges::copy(record.backend_addr, address.ip.bytes.begin());
  address.port = ntohs(record.backend_port_be);
  return address;
}

/// The records of one identity share a judgement.
std::uint64_t identity_of(const mesh_owner& record) {
  return static_cast<std::uint64_t>(record.backend_generation) << 32 | record.backend_id;
}

/// A TCP socket that failed has no peer any more; a UDP socket keeps it, whatever happened to its datagrams.
bool lives(const mesh_owner& record) {
  if (record.outcome == MESH_KILLED) return false;
  return record.proto == IPPROTO_UDP || record.outcome == MESH_OUTCOME_NONE;
}

base::Duration age_of(const mesh_owner& record, base::TimePoint now) {
  return now.time_since_epoch() - base::Duration(static_cast<std::int64_t>(record.start_ns));
}

bool is_departure(DrainReason reason) { return reason != DrainReason::kDown && reason != DrainReason::kAge; }

}  // namespace

EndpointKey endpoint_of(const mesh_owner& record) { return {frontend_of(record), backend_of(record)}; }

std::string_view to_string(DrainReason reason) {
  switch (reason) {
    case DrainReason::kRemoved:
      return "removed";
    case DrainReason::kDraining:
      return "draining";
    case DrainReason::kDrained:
      return "drained";
    case DrainReason::kDown:
      return "down";
    case DrainReason::kAge:
      return "age";
  }
  return "?";
}

/// What holds for all connections to one endpoint.
struct DrainPlanner::Group {
  EndpointKey key;
  Leaving* leaving = nullptr;               ///< Null: it stays.
  std::optional<base::TimePoint> deadline;  ///< Of leaving; nothing: never.
  std::optional<std::chrono::seconds> max_age;
  std::size_t connections = 0;
  std::vector<mesh_owner> aged;  ///< Beyond their limit.
};

base::Duration DrainPlanner::age_limit(std::uint64_t cookie, std::chrono::seconds max_age) {
  const base::Duration jitter = std::chrono::duration_cast<base::Duration>(max_age) / kAgeJitter;
  base::Random random(cookie);
  return max_age + base::Duration(static_cast<std::int64_t>(random.uniform() * static_cast<double>(jitter.count())));
}

DrainPlanner::Routes DrainPlanner::routes_of(const model::RoutingTable& table) {
  Routes routes;
  routes.reserve(table.services.size());
  for (const auto& route : table.services) routes.emplace(route->service->frontend, route.get());
  return routes;
}

/// Remembers what services that go away wanted for their connections.
void DrainPlanner::take_table(const model::RoutingTablePtr& table) {
  if (table == table_) return;
  Routes routes = routes_of(*table);
  for (const auto& [frontend, route] : routes_) {
    if (!routes.contains(frontend)) gone_[frontend] = {route->service->name, route->service->drain};
  }
  for (const auto& [frontend, route] : routes) gone_.erase(frontend);
  routes_ = std::move(routes);
  table_ = table;
}

DrainPlanner::Policy DrainPlanner::policy_of(const model::Frontend& frontend) const {
  if (const auto route = routes_.find(frontend); route != routes_.end()) {
    return {route->second->service->name, route->second->service->drain};
  }
  const auto gone = gone_.find(frontend);
  return gone != gone_.end() ? gone->second : Policy{frontend.to_string(), {}};
}

/// Begins or goes on with leaving an endpoint. One that is drained and then removed began when it was drained.
void DrainPlanner::leave(Group& group, DrainReason reason, std::optional<std::chrono::seconds> timeout,
                         const Input& input) {
  const auto [entry, is_new] = leaving_.try_emplace(group.key);
  Leaving& leaving = entry->second;
  if (is_new || is_departure(leaving.reason) != is_departure(reason)) {
    leaving = {.reason = reason, .since = input.now};
    const auto order = input.orders.find(group.key);
    // An order may be older than this agent.
    if (is_departure(reason) && order != input.orders.end()) {
      leaving.since -= std::max(base::Duration::zero(), base::Duration(input.wall - order->second.since));
    }
  }
  leaving.reason = reason;
  leaving.seen = looks_;
  group.leaving = &leaving;
  if (timeout) group.deadline = leaving.since + *timeout;
}

DrainPlanner::Group DrainPlanner::judge(const EndpointKey& key, const Routes& routes, const Input& input) {
  Group group{.key = key};
  const model::DrainPolicy policy = policy_of(group.key.first).drain;
  const auto found = routes.find(group.key.first);
  const model::ServiceRoute* route = found == routes.end() ? nullptr : found->second;
  const model::Endpoint* endpoint = nullptr;
  if (route != nullptr) {
    const auto& endpoints = route->service->endpoints;
    const auto at = std::ranges::lower_bound(endpoints, group.key.second, {}, &model::Endpoint::address);
    if (at != endpoints.end() && at->address == group.key.second) endpoint = &*at;
  }
  const auto order = input.orders.find(group.key);
  const bool ordered = order != input.orders.end();
  const auto timeout = ordered ? order->second.timeout.value_or(policy.timeout) : policy.timeout;
  if (endpoint == nullptr) {
    leave(group, DrainReason::kRemoved, timeout, input);
  } else if (endpoint->draining) {
    leave(group, DrainReason::kDraining, timeout, input);
  } else if (ordered) {
    leave(group, DrainReason::kDrained, timeout, input);
  } else {
    const auto index = static_cast<std::size_t>(endpoint - route->service->endpoints.data());
    if (route->eligibility[index] == model::Eligibility::kProbeDown && policy.on_down == model::OnDown::kReset) {
      leave(group, DrainReason::kDown, policy.reset_after, input);
    } else if (policy.max_age.count() > 0 && route->routes.size() > 1 && !route->panic) {
      group.max_age = policy.max_age;
    }
  }
  return group;
}

/// Whether the socket was not tried, or long enough ago; else notes when it may be.
bool DrainPlanner::may_try(const mesh_owner& record, base::TimePoint now, base::TimePoint& next) {
  const auto found = tried_.find(record.cookie);
  if (found == tried_.end()) return true;
  found->second.seen = looks_;
  if (found->second.next <= now) return true;
  next = std::min(next, found->second.next);
  return false;
}

DrainPlanner::Look DrainPlanner::look(const Input& input) {
  ++looks_;
  take_table(input.table);
  Look look;
  look.next = input.now + kIdle;
  std::vector<Group> groups;
  std::unordered_map<std::uint64_t, std::size_t> group_of;  // identity -> index
  input.for_each_record([&](const mesh_owner& record) {
    const auto [at, is_new] = group_of.try_emplace(identity_of(record), groups.size());
    if (is_new) groups.push_back(judge(endpoint_of(record), routes_, input));
    Group& group = groups[at->second];
    if (!lives(record)) return;
    const auto tried = tried_.find(record.cookie);
    const bool was_reset = tried != tried_.end() && tried->second.next == base::TimePoint::max();
    group.connections += !was_reset;
    if (group.leaving != nullptr) {
      if (group.deadline && *group.deadline <= input.now) {
        if (may_try(record, input.now, look.next)) look.due.push_back({record, group.leaving->reason});
      } else if (tried != tried_.end()) {
        tried->second.seen = looks_;
      }
    } else if (group.max_age && may_try(record, input.now, look.next) &&
               age_of(record, input.now) >= age_limit(record.cookie, *group.max_age)) {
      group.aged.push_back(record);
    }
  });
  if (!input.relayed.empty()) judge_relayed(groups, input, look);
  select_aged(groups, look, input.now);
  list_leaving(groups, input, look);
  std::erase_if(tried_, [this](const auto& entry) { return entry.second.seen != looks_; });
  std::erase_if(leaving_, [this](const auto& entry) { return entry.second.seen != looks_; });
  std::erase_if(gone_, [&](const auto& entry) {
    return std::ranges::none_of(groups, [&](const Group& group) { return group.key.first == entry.first; });
  });
  return look;
}

/// The relay ends what is too old itself.
void DrainPlanner::judge_relayed(std::vector<Group>& groups, const Input& input, Look& look) {
  const Routes routes = routes_of(*input.relayed_table);
  for (const RelayedConnections& relayed : input.relayed) {
    Group group = judge(relayed.key, routes, input);
    group.max_age.reset();
    group.connections = relayed.count;
    if (group.leaving != nullptr && group.deadline && *group.deadline <= input.now) {
      Leaving& leaving = *group.leaving;
      if (leaving.relay_told == base::TimePoint{} || input.now - leaving.relay_told >= kRelayedAgain) {
        leaving.relay_told = input.now;
        leaving.reset += relayed.count;
        look.relayed_due.push_back({relayed.key, leaving.reason, relayed.count});
      }
    }
    groups.push_back(std::move(group));
  }
}

/// Of each service the oldest first, at most one in kAgedShare of its connections per kAgedInterval.
void DrainPlanner::select_aged(std::vector<Group>& groups, Look& look, base::TimePoint now) {
  struct Aged {
    std::size_t connections = 0;
    std::vector<mesh_owner> records;
  };
  std::unordered_map<model::Frontend, Aged, model::FrontendHash> services;
  for (Group& group : groups) {
    if (!group.max_age) continue;
    Aged& aged = services[group.key.first];
    aged.connections += group.connections;
    std::ranges::move(group.aged, std::back_inserter(aged.records));
  }
  std::erase_if(aged_at_, [&](const auto& entry) { return !services.contains(entry.first); });
  for (auto& [frontend, aged] : services) {
    const auto last = aged_at_.find(frontend);
    const base::TimePoint next = last == aged_at_.end() ? now : last->second + kAgedInterval;
    look.next = std::min(look.next, std::max(next, now + kAgedInterval));
    if (aged.records.empty() || next > now) continue;
    const std::size_t most = std::min(aged.records.size(), (aged.connections + kAgedShare - 1) / kAgedShare);
    std::ranges::partial_sort(aged.records, aged.records.begin() + static_cast<std::ptrdiff_t>(most), {},
                              &mesh_owner::start_ns);
    for (std::size_t i = 0; i < most; ++i) look.due.push_back({aged.records[i], DrainReason::kAge});
    aged_at_[frontend] = now;
  }
}

/// What people are shown, and when to look again for it.
void DrainPlanner::list_leaving(const std::vector<Group>& groups, const Input& input, Look& look) {
  std::map<EndpointKey, LeavingEndpoint> listed;
  const auto add = [&](const EndpointKey& key) -> LeavingEndpoint& {
    const auto [entry, is_new] = listed.try_emplace(key);
    if (is_new) {
      entry->second.service = policy_of(key.first).name;
      entry->second.frontend = key.first;
      entry->second.address = key.second;
    }
    return entry->second;
  };
  for (const Group& group : groups) {
    if (group.leaving == nullptr) continue;
    if (group.connections > 0) look.next = std::min(look.next, input.now + kBusy);
    if (group.deadline && *group.deadline > input.now) look.next = std::min(look.next, *group.deadline);
    LeavingEndpoint& one = add(group.key);
    one.reason = group.leaving->reason;
    one.since = input.wall - (input.now - group.leaving->since);
    if (group.deadline) one.deadline = input.wall + (*group.deadline - input.now);
    one.connections += group.connections;
    one.reset = group.leaving->reset;
  }
  for (const auto& [key, order] : input.orders) {
    if (listed.contains(key)) continue;
    LeavingEndpoint& one = add(key);
    one.reason = DrainReason::kDrained;
    one.since = order.since;
    if (const auto timeout = order.timeout.value_or(policy_of(key.first).drain.timeout)) {
      one.deadline = order.since + *timeout;
    }
  }
  for (auto& [key, one] : listed) look.leaving.push_back(std::move(one));
}

void DrainPlanner::tried(const Due& due, Attempt attempt, base::TimePoint now) {
  Tried& tried = tried_[due.record.cookie];
  tried.seen = looks_;
  if (attempt == Attempt::kReset) {
    tried.next = base::TimePoint::max();
    const auto leaving = leaving_.find(endpoint_of(due.record));
    if (leaving != leaving_.end()) ++leaving->second.reset;
    return;
  }
  tried.backoff = std::clamp(tried.backoff * 2, kBackoffMin, kBackoffMax);
  tried.next = now + tried.backoff;
}

}  // namespace mesh::health
