// SPDX-License-Identifier: Apache-2.0
// Compiler::recover: what is in force is what a frontend leads to. All else that bears a name was given up or never
// finished by an earlier agent; it goes through the quarantine once more and is wiped by a release plan.
#include <algorithm>
#include <tuple>
#include <utility>

#include "datapath/compile.hpp"
#include "datapath/records.hpp"

namespace mesh::datapath {

Compiler::Compiler(const MapStore& store)
    : store_(&store),
      first_backend_(store.sizes().services, 0),
      next_backend_(store.sizes().backends, 0),
      gone_in_(store.sizes().backends, 0),
      services_(1, store.sizes().services),
      ranges_(MESH_RANGE_EMPTY + 1, store.sizes().ranges),
      backends_(1, store.sizes().backends),
      slots_(store.sizes().slots) {}

base::Result<Compiler> Compiler::recover(const MapStore& store) {
  std::vector<std::pair<mesh_frontend_key, std::uint32_t>> found;
  MESH_CHECK(
      store.for_each_frontend([&](const mesh_frontend_key& key, std::uint32_t id) { found.emplace_back(key, id); }));
  Compiler compiler(store);
  compiler.recover_frontends(found);
  compiler.recover_backends();
  compiler.recover_tables();
  return compiler;
}

void Compiler::recover_frontends(const std::vector<std::pair<mesh_frontend_key, std::uint32_t>>& found) {
  std::vector<std::pair<model::Frontend, std::uint32_t>> live;
  live.reserve(found.size());
  for (const auto& [key, id] : found) {
    // Two frontends can't both be the one that the service's record names.
    const bool sound = id > 0 && id < store_->sizes().services &&
                       (store_->service(id).flags & MESH_SERVICE_IN_USE) != 0 &&
                       same(store_->service(id).frontend, key);
    if (sound) {
      live.emplace_back(frontend_of(key), id);
    } else {
      strays_.push_back(key);
    }
  }
  std::sort(live.begin(), live.end());
  auto stand_ins = std::make_shared<model::RoutingTable>();
  stand_ins->services.reserve(live.size());
  ids_.reserve(live.size());
  for (const auto& [frontend, id] : live) {
    auto service = std::make_shared<model::Service>();
    service->frontend = frontend;
    stand_ins->services.push_back(
        std::make_shared<const model::ServiceRoute>(model::ServiceRoute{.service = std::move(service)}));
    ids_.push_back(id);
  }
  table_ = stand_ins;
  recovered_ = std::move(stand_ins);
}

void Compiler::recover_backends() {
  struct Found {
    base::SocketAddress address;
    std::uint32_t service_id;
    std::uint32_t id;
    bool usable;
  };
  std::vector<Found> found;
  std::uint32_t backends_end = 1;
  std::vector<bool> used_services(store_->sizes().services, false);
  std::vector<bool> taken(store_->sizes().backends, false);
  for (std::uint32_t id = 1; id < store_->sizes().backends; ++id) {
    const mesh_backend backend = store_->backend(id);
    if (backend.generation == 0 && backend.service_id == 0) continue;
    backends_end = id + 1;
    if (backend.service_id == 0 || backend.service_id >= store_->sizes().services) continue;
    found.push_back({address_of(backend), backend.service_id, id, (backend.flags & MESH_BACKEND_USABLE) != 0});
    taken[id] = true;
    used_services[backend.service_id] = true;
  }
  backends_.start_fresh_at(backends_end);
  for (std::uint32_t id = 1; id < backends_end; ++id) {
    if (!taken[id]) backends_.give_back(id);
  }

  // Services: in force, left over (to be wiped), or free.
  std::vector<bool> in_force(store_->sizes().services, false);
  for (const std::uint32_t id : ids_) in_force[id] = true;
  std::uint32_t services_end = 1;
  for (std::uint32_t id = 1; id < store_->sizes().services; ++id) {
    if (store_->service(id).flags != 0 || store_->state(id) != 0) used_services[id] = true;
    if (used_services[id]) services_end = id + 1;
  }
  services_.start_fresh_at(services_end);
  for (std::uint32_t id = 1; id < services_end; ++id) {
    if (!used_services[id]) {
      services_.give_back(id);
    } else if (!in_force[id]) {
      open_.services.push_back(id);
    }
  }

  // An identity has one id. Should there be two (tables written by someone else), the one in use stays.
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tuple(a.service_id, a.address, !a.usable, a.id) < std::tuple(b.service_id, b.address, !b.usable, b.id);
  });
  std::uint32_t* link = nullptr;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Found& one = found[i];
    const bool first_of_service = i == 0 || found[i - 1].service_id != one.service_id;
    const bool again = !first_of_service && found[i - 1].address == one.address;
    if (again || !in_force[one.service_id]) {
      open_.backends.push_back(one.id);
      gone_in_[one.id] = open_.token;
    } else {
      ++live_backends_;
    }
    if (again) continue;
    if (first_of_service) link = &first_backend_[one.service_id];
    *link = one.id;
    link = &next_backend_[one.id];
  }
}

void Compiler::recover_tables() {
  const TableSizes& sizes = store_->sizes();
  std::vector<bool> taken(sizes.ranges, false);
  std::uint32_t ranges_end = MESH_RANGE_EMPTY + 1;
  for (const std::uint32_t id : ids_) {
    const std::uint32_t range_id = range_of(store_->state(id));
    if (range_id == MESH_RANGE_EMPTY) continue;
    bool sound = range_id > MESH_RANGE_EMPTY && range_id < sizes.ranges && !taken[range_id];
    if (sound) {
      const mesh_range range = store_->range(range_id);
      const std::uint32_t width = mesh_slots_per_entry(range.algorithm);
      sound = range.service_id == id && range.count > 0 && range.count <= sizes.slots / width &&
              slots_.reserve({range.base, range.count * width});
    }
    if (!sound) {
      broken_.insert(id);
      continue;
    }
    taken[range_id] = true;
    ranges_end = std::max(ranges_end, range_id + 1);
  }
  ranges_.start_fresh_at(ranges_end);
  for (std::uint32_t id = MESH_RANGE_EMPTY + 1; id < ranges_end; ++id) {
    if (!taken[id]) ranges_.give_back(id);
  }
}

}  // namespace mesh::datapath
