// SPDX-License-Identifier: Apache-2.0
#include "datapath/compile.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "datapath/records.hpp"

namespace mesh::datapath {
namespace {

Run run_of(const mesh_range& range) {
  return {range.base, range.count * balance::slots_per_entry(static_cast<model::Algorithm>(range.algorithm))};
}

/// `route_weight`: of the endpoint's route; 0: it has none, because it is ejected or for another reason.
mesh_backend record_of(const model::Endpoint& endpoint, std::uint32_t service_id, std::uint32_t generation,
                       std::uint16_t route_weight, bool ejected) {
  mesh_backend backend{};
  std::memcpy(backend.addr, endpoint.address.ip.bytes.data(), sizeof(backend.addr));
  backend.port_be = htons(endpoint.address.port);
  backend.weight = route_weight != 0 ? route_weight : endpoint.weight;
  backend.service_id = service_id;
  backend.generation = generation;
  backend.flags = route_weight != 0 ? MESH_BACKEND_USABLE : ejected ? MESH_BACKEND_EJECTED : 0;
  return backend;
}

std::uint32_t service_flags(const model::Service& service) {
  return MESH_SERVICE_IN_USE | (service.relay_listeners ? MESH_SERVICE_TLS : 0);
}

mesh_range range_for(const model::ServiceRoute& route, std::uint32_t service_id, std::uint32_t entries) {
  const model::Service& service = *route.service;
  mesh_range range{};
  range.count = entries;
  range.service_id = service_id;
  range.seed = seed_of(service.frontend);
  range.affinity_timeout_s = static_cast<std::uint32_t>(service.affinity_timeout.count());
  range.algorithm = static_cast<std::uint8_t>(service.algorithm);
  range.hash_key = static_cast<std::uint8_t>(service.hash_key);
  range.flags = service.feedback ? MESH_RANGE_FEEDBACK : 0;
  return range;
}

/// Whether a route of `a` is one of `b`: the same object, not an equal one. Both are in the order of frontends.
bool shares_a_service(const model::RoutingTable& a, const model::RoutingTable& b) {
  auto other = b.services.begin();
  return std::ranges::any_of(a.services, [&](const model::ServiceRoutePtr& route) {
    const model::Frontend& frontend = route->service->frontend;
    while (other != b.services.end() && (*other)->service->frontend < frontend) ++other;
    return other != b.services.end() && *other == route;
  });
}

/// The table's indices as backend ids, in the layout of mesh_slot.
void fill_slots(const balance::Table& table, const model::ServiceRoute& route, std::uint32_t service_id,
                const std::vector<std::uint32_t>& endpoint_ids, std::vector<mesh_slot>& slots) {
  const auto backend = [&](std::uint32_t index) { return endpoint_ids[route.routes[index].endpoint]; };
  slots.clear();
  for (std::uint32_t i = 0; i < table.entries(); ++i) {
    slots.push_back({backend(table.picks[i]), service_id});
    if (!table.thresholds.empty()) slots.push_back({backend(table.aliases[i]), table.thresholds[i]});
  }
}

}  // namespace

/// What one compile() has taken and decided. Nothing of the Compiler but its pools changes before commit().
struct Compiler::Draft {
  struct List {
    std::uint32_t service_id;
    std::size_t begin;
    std::size_t end;
  };

  Plan plan;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> taken_services, taken_ranges, taken_backends;
  std::vector<Run> taken_slots;
  std::uint32_t fresh_services, fresh_ranges, fresh_backends;
  std::vector<std::uint32_t> list_ids;  // the new backend lists of changed services, one after the other
  std::vector<List> lists;
  std::vector<std::uint32_t> revived;
  std::vector<std::uint32_t> sound;  // services that got a new table
  Batch given_up;
};

base::Result<Plan> Compiler::compile(const model::RoutingTablePtr& next) {
  Draft draft{
      .fresh_services = services_.fresh(), .fresh_ranges = ranges_.fresh(), .fresh_backends = backends_.fresh()};
  for (const mesh_frontend_key& key : strays_) draft.plan.erase_frontend(key);

  const std::vector<model::ServiceRoutePtr>& want = next->services;
  const std::vector<model::ServiceRoutePtr>& have = table_->services;
  draft.ids.reserve(want.size());
  const auto carry_over = [&]() -> Placed {
    std::size_t old = 0;
    for (const model::ServiceRoutePtr& route : want) {
      if (old < have.size() && have[old] == route) {
        draft.ids.push_back(ids_[old++]);
        continue;
      }
      const model::Frontend& frontend = route->service->frontend;
      while (old < have.size() && have[old]->service->frontend < frontend) {
        remove(ids_[old], have[old]->service->frontend, draft);
        ++old;
      }
      if (old < have.size() && have[old]->service->frontend == frontend) {
        MESH_CHECK(place(ids_[old], false, have[old].get(), *route, draft));
        draft.ids.push_back(ids_[old++]);
        continue;
      }
      const std::optional<std::uint32_t> id = services_.take();
      if (!id) return std::unexpected(Limit::kServices);
      draft.taken_services.push_back(*id);
      MESH_CHECK(place(*id, true, nullptr, *route, draft));
      draft.ids.push_back(*id);
    }
    for (; old < have.size(); ++old) remove(ids_[old], have[old]->service->frontend, draft);
    return {};
  };
  const Placed done = carry_over();
  if (!done) {
    // The pools as they were first: the message counts what is free.
    roll_back(draft);
    return full(done.error(), *next);
  }
  commit(draft, next);
  return std::move(draft.plan);
}

Compiler::Placed Compiler::place(std::uint32_t id, bool is_new, const model::ServiceRoute* old,
                                 const model::ServiceRoute& next, Draft& draft) {
  // Only what is shown to people changed, such as the age of a probe.
  if (old != nullptr && old->service == next.service && old->routes == next.routes &&
      old->eligibility == next.eligibility) {
    return {};
  }
  const std::size_t ops = draft.plan.size();
  late_.clear();
  if (!is_new) place_flags(id, next, draft);
  MESH_CHECK(place_backends(id, next, draft));
  MESH_CHECK(place_table(id, is_new, next, draft));
  if (is_new) draft.plan.write_frontend(key_of(next.service->frontend), id);
  for (const auto& [backend_id, backend] : late_) draft.plan.write_backend(backend_id, backend);
  draft.plan.changes.added += is_new;
  draft.plan.changes.updated += !is_new && draft.plan.size() > ops;
  return {};
}

/// Those of a service that has some; a pause of it stays.
void Compiler::place_flags(std::uint32_t id, const model::ServiceRoute& next, Draft& draft) const {
  mesh_service service = store_->service(id);
  const std::uint32_t flags = service_flags(*next.service);
  if (service.flags == flags) return;
  service.flags = flags;
  draft.plan.write_service(id, service);
}

Compiler::Placed Compiler::place_backends(std::uint32_t id, const model::ServiceRoute& next, Draft& draft) {
  const std::vector<model::Endpoint>& endpoints = next.service->endpoints;
  route_weights_.assign(endpoints.size(), 0);
  for (const model::Route& route : next.routes) route_weights_[route.endpoint] = route.weight;
  // One that is only far is not in the table, but clients with affinity may stay there.
  for (std::size_t i = 0; i < next.eligibility.size(); ++i) {
    if (next.eligibility[i] == model::Eligibility::kFar) route_weights_[i] = endpoints[i].weight;
  }
  const auto record = [&](std::size_t i, std::uint32_t generation) {
    const bool ejected = i < next.eligibility.size() && next.eligibility[i] == model::Eligibility::kEjected;
    mesh_backend backend = record_of(endpoints[i], id, generation, route_weights_[i], ejected);
    if (next.service->own_listeners) backend.flags |= MESH_BACKEND_LISTENER;
    if (next.service->relay_listeners) backend.flags |= MESH_BACKEND_RELAY;
    return backend;
  };
  endpoint_ids_.clear();

  const std::size_t begin = draft.list_ids.size();
  std::uint32_t old = first_backend_[id];
  const auto give_up = [&](std::uint32_t backend_id, mesh_backend backend) {
    draft.list_ids.push_back(backend_id);
    if (gone_in_[backend_id] != 0) return;
    draft.given_up.backends.push_back(backend_id);
    if (backend.flags == 0) return;
    backend.flags = 0;
    late_.emplace_back(backend_id, backend);
  };
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    const base::SocketAddress& address = endpoints[i].address;
    mesh_backend have{};
    base::SocketAddress have_address;
    for (; old != 0; old = next_backend_[old]) {
      have = store_->backend(old);
      have_address = address_of(have);
      if (have_address >= address) break;
      give_up(old, have);
    }
    if (old != 0 && have_address == address) {
      const mesh_backend backend = record(i, have.generation);
      if (!same(have, backend)) {
        const bool stops = (have.flags & MESH_BACKEND_USABLE) != 0 && route_weights_[i] == 0;
        if (stops) {
          late_.emplace_back(old, backend);
        } else {
          draft.plan.write_backend(old, backend);
        }
      }
      if (gone_in_[old] != 0) draft.revived.push_back(old);
      draft.list_ids.push_back(old);
      endpoint_ids_.push_back(old);
      old = next_backend_[old];
      continue;
    }
    const std::optional<std::uint32_t> fresh = backends_.take();
    if (!fresh) return std::unexpected(Limit::kBackends);
    draft.taken_backends.push_back(*fresh);
    const std::uint32_t generation = store_->backend(*fresh).generation + 1;
    draft.plan.write_backend(*fresh, record(i, generation));
    draft.list_ids.push_back(*fresh);
    endpoint_ids_.push_back(*fresh);
  }
  for (; old != 0; old = next_backend_[old]) give_up(old, store_->backend(old));
  draft.lists.push_back({id, begin, draft.list_ids.size()});
  return {};
}

Compiler::Placed Compiler::place_table(std::uint32_t id, bool is_new, const model::ServiceRoute& next, Draft& draft) {
  const std::uint64_t state = is_new ? 0 : store_->state(id);
  const bool has_table = !is_new && !broken_.contains(id);
  std::uint32_t range_id = MESH_RANGE_EMPTY;
  if (next.routes.empty()) {
    if (has_table && range_of(state) == MESH_RANGE_EMPTY) return {};
  } else {
    balance::build_table(next, table_buffer_);
    fill_slots(table_buffer_, next, id, endpoint_ids_, slots_buffer_);
    mesh_range range = range_for(next, id, table_buffer_.entries());
    if (has_table && range_of(state) != MESH_RANGE_EMPTY) {
      const mesh_range have = store_->range(range_of(state));
      range.base = have.base;
      bool equal = same(have, range);
      for (std::uint32_t i = 0; equal && i < slots_buffer_.size(); ++i) {
        equal = same(store_->slot(have.base + i), slots_buffer_[i]);
      }
      if (equal) return {};
    }
    const std::optional<std::uint32_t> new_range = ranges_.take();
    if (!new_range) return std::unexpected(Limit::kRanges);
    draft.taken_ranges.push_back(*new_range);
    const auto count = static_cast<std::uint32_t>(slots_buffer_.size());
    const std::optional<std::uint32_t> slots = slots_.take(count);
    if (!slots) return std::unexpected(Limit::kSlots);
    draft.taken_slots.push_back({*slots, count});
    range.base = *slots;
    std::copy(slots_buffer_.begin(), slots_buffer_.end(), draft.plan.write_slots(*slots, count));
    draft.plan.write_range(*new_range, range);
    range_id = *new_range;
  }
  if (is_new) {
    mesh_service service{};
    service.frontend = key_of(next.service->frontend);
    service.flags = service_flags(*next.service);
    draft.plan.write_service(id, service);
  } else {
    give_up_table(id, draft);
    draft.sound.push_back(id);
  }
  const std::uint64_t generation = std::uint64_t{generation_of(state)} + 1;
  draft.plan.store_state(id, generation << 32 | range_id);
  return {};
}

void Compiler::remove(std::uint32_t id, const model::Frontend& frontend, Draft& draft) {
  draft.plan.erase_frontend(key_of(frontend));
  ++draft.plan.changes.removed;
  draft.given_up.services.push_back(id);
  for (std::uint32_t backend = first_backend_[id]; backend != 0; backend = next_backend_[backend]) {
    if (gone_in_[backend] == 0) draft.given_up.backends.push_back(backend);
  }
  give_up_table(id, draft);
  draft.sound.push_back(id);
}

void Compiler::give_up_table(std::uint32_t id, Draft& draft) const {
  const std::uint32_t range_id = range_of(store_->state(id));
  if (broken_.contains(id) || range_id == MESH_RANGE_EMPTY) return;
  draft.given_up.ranges.push_back(range_id);
  draft.given_up.slots.push_back(run_of(store_->range(range_id)));
}

void Compiler::commit(Draft& draft, const model::RoutingTablePtr& next) {
  for (const Draft::List& list : draft.lists) {
    std::uint32_t* link = &first_backend_[list.service_id];
    for (std::size_t i = list.begin; i < list.end; ++i) {
      *link = draft.list_ids[i];
      link = &next_backend_[draft.list_ids[i]];
    }
    *link = 0;
  }
  for (const std::uint32_t id : draft.revived) gone_in_[id] = 0;
  for (const std::uint32_t id : draft.given_up.backends) gone_in_[id] = open_.token;
  for (const Run& run : draft.given_up.slots) quarantined_slots_ += run.count;
  for (const std::uint32_t id : draft.sound) broken_.erase(id);
  quarantined_ranges_ += static_cast<std::uint32_t>(draft.given_up.ranges.size());
  live_backends_ += static_cast<std::uint32_t>(draft.taken_backends.size() + draft.revived.size());
  live_backends_ -= static_cast<std::uint32_t>(draft.given_up.backends.size());

  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(open_.services, draft.given_up.services);
  append(open_.ranges, draft.given_up.ranges);
  append(open_.backends, draft.given_up.backends);
  append(open_.slots, draft.given_up.slots);
  ids_ = std::move(draft.ids);
  table_ = next;
  if (recovered_ && !shares_a_service(*recovered_, *next)) recovered_.reset();
  strays_.clear();
}

void Compiler::roll_back(const Draft& draft) {
  services_.undo(draft.taken_services, draft.fresh_services);
  ranges_.undo(draft.taken_ranges, draft.fresh_ranges);
  backends_.undo(draft.taken_backends, draft.fresh_backends);
  for (const Run& run : draft.taken_slots) slots_.give_back(run);
}

std::uint32_t Compiler::seal() {
  if (open_.empty()) return 0;
  const std::uint32_t token = open_.token;
  sealed_.push_back(std::move(open_));
  open_ = Batch{.token = token + 1};
  return token;
}

Plan Compiler::release(std::uint32_t token, const std::unordered_set<std::uint32_t>* named) {
  Plan plan;
  for (; !sealed_.empty() && sealed_.front().token <= token; sealed_.pop_front()) {
    const Batch& batch = sealed_.front();
    for (const std::uint32_t id : batch.ranges) ranges_.give_back(id);
    for (const Run& run : batch.slots) {
      slots_.give_back(run);
      quarantined_slots_ -= run.count;
    }
    quarantined_ranges_ -= static_cast<std::uint32_t>(batch.ranges.size());
    for (const std::uint32_t id : batch.backends) waiting_.backends.push_back({id, batch.token});
    for (const std::uint32_t id : batch.services) {
      plan.store_state(id, 0);
      waiting_.services.push_back(id);
    }
  }
  std::erase_if(waiting_.backends, [&](const GoneBackend& gone) {
    if (gone_in_[gone.id] != gone.token) return true;  // it came back
    if (named == nullptr || named->contains(gone.id)) return false;
    const mesh_backend backend = store_->backend(gone.id);
    unlink(backend.service_id, gone.id);
    mesh_backend wiped{};
    wiped.generation = backend.generation;
    plan.write_backend(gone.id, wiped);
    gone_in_[gone.id] = 0;
    backends_.give_back(gone.id);
    return true;
  });
  std::erase_if(waiting_.services, [&](std::uint32_t id) {
    if (first_backend_[id] != 0) return false;
    plan.write_service(id, mesh_service{});
    services_.give_back(id);
    return true;
  });
  return plan;
}

void Compiler::unlink(std::uint32_t service_id, std::uint32_t backend_id) {
  for (std::uint32_t* link = &first_backend_[service_id]; *link != 0; link = &next_backend_[*link]) {
    if (*link != backend_id) continue;
    *link = next_backend_[backend_id];
    return;
  }
}

Usage Compiler::usage() const {
  Usage usage;
  usage.services.used = static_cast<std::uint32_t>(ids_.size());
  usage.services.size = services_.capacity();
  usage.services.quarantined = services_.capacity() - services_.available() - usage.services.used;
  usage.backends.used = live_backends_;
  usage.backends.size = backends_.capacity();
  usage.backends.quarantined = backends_.capacity() - backends_.available() - live_backends_;
  usage.ranges.quarantined = quarantined_ranges_;
  usage.ranges.size = ranges_.capacity();
  usage.ranges.used = ranges_.capacity() - ranges_.available() - quarantined_ranges_;
  usage.slots.quarantined = quarantined_slots_;
  usage.slots.size = slots_.size();
  usage.slots.used = slots_.size() - slots_.available() - quarantined_slots_;
  usage.largest_free_run = slots_.largest_free_run();
  return usage;
}

std::shared_ptr<const IdView> Compiler::ids() const {
  auto view = std::make_shared<IdView>();
  if (recovered_) {
    view->table = std::make_shared<const model::RoutingTable>();
    return view;
  }
  view->table = table_;
  view->service_ids = ids_;
  view->first_backend.reserve(ids_.size());
  view->backend_ids.reserve(live_backends_);
  for (const std::uint32_t id : ids_) {
    view->first_backend.push_back(static_cast<std::uint32_t>(view->backend_ids.size()));
    // The list holds the endpoints' backends in their order, and gone ones between them.
    for (std::uint32_t backend = first_backend_[id]; backend != 0; backend = next_backend_[backend]) {
      if (gone_in_[backend] == 0) view->backend_ids.push_back(backend);
    }
  }
  return view;
}

namespace {

struct Need {
  std::uint64_t services = 0;
  std::uint64_t ranges = 0;
  std::uint64_t backends = 0;
  std::uint64_t slots = 0;
};

Need need_of(const model::RoutingTable& table) {
  Need need;
  need.services = table.services.size();
  for (const model::ServiceRoutePtr& route : table.services) {
    need.backends += route->service->endpoints.size();
    need.ranges += !route->routes.empty();
    need.slots += std::uint64_t{balance::table_entries(*route)} * balance::slots_per_entry(route->service->algorithm);
  }
  return need;
}

}  // namespace

std::unexpected<base::Error> Compiler::full(Limit limit, const model::RoutingTable& next) const {
  const Need need = need_of(next);
  const Usage now = usage();
  const auto error = [&](std::string_view name, const MapUsage& have, std::uint64_t needed, std::string detail = {}) {
    std::string message =
        fmt::format("apply {} services: map '{}' is full: {} needed, {} usable, {} in use, {} in quarantine{}",
                    next.services.size(), name, needed, have.size, have.used, have.quarantined, detail);
    std::string remedy =
        needed > have.size
            ? fmt::format("set agent.limits.{} above {} and restart; the tables in force stay", name, needed)
            : fmt::format(
                  "old and new stand beside each other during an update: set agent.limits.{} above {} and "
                  "restart; the tables in force stay",
                  name, have.used + needed);
    return base::fail(base::ErrorKind::kExhausted, std::move(message), std::move(remedy));
  };
  switch (limit) {
    case Limit::kServices:
      return error("services", now.services, need.services);
    case Limit::kRanges:
      return error("ranges", now.ranges, need.ranges);
    case Limit::kBackends:
      return error("backends", now.backends, need.backends);
    case Limit::kSlots:
      break;
  }
  auto slots = error("slots", now.slots, need.slots, fmt::format(", largest free run {}", now.largest_free_run));
  // Tables in force are not moved together: it would take room that is not there, and twice the writes.
  const std::uint64_t free = now.slots.size - now.slots.used - now.slots.quarantined;
  if (need.slots <= now.slots.size && now.largest_free_run < free) {
    slots.error().message += fmt::format(": {} free, but in pieces, and a service's table is one piece", free);
    slots.error().remedy = fmt::format(
        "it is tried again, and fits once neighbours of a free piece go; or set "
        "agent.limits.slots above {} and restart; the tables in force stay",
        now.slots.used + need.slots);
  }
  return slots;
}

base::Result<void> Compiler::fits(const model::RoutingTable& table) const {
  const Need need = need_of(table);
  if (need.services > services_.capacity()) return full(Limit::kServices, table);
  if (need.ranges > ranges_.capacity()) return full(Limit::kRanges, table);
  if (need.backends > backends_.capacity()) return full(Limit::kBackends, table);
  if (need.slots > slots_.size()) return full(Limit::kSlots, table);
  return {};
}

base::Result<Plan> drift(const MapStore& store, const model::RoutingTablePtr& table) {
  Compiler compiler = MESH_TRY(Compiler::recover(store));
  return compiler.compile(table);
}

}  // namespace mesh::datapath
