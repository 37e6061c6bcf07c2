// SPDX-License-Identifier: Apache-2.0
#include "datapath/plan.hpp"

#include <fmt/format.h>

#include <cerrno>

#include "datapath/records.hpp"

namespace mesh::datapath {

void Plan::add(OpKind kind, std::uint32_t id, std::size_t value, std::uint32_t count) {
  ops_.push_back({kind, id, static_cast<std::uint32_t>(value), count});
}

void Plan::write_backend(std::uint32_t id, const mesh_backend& backend) {
  add(OpKind::kWriteBackend, id, backends_.size());
  backends_.push_back(backend);
}

mesh_slot* Plan::write_slots(std::uint32_t base, std::uint32_t count) {
  add(OpKind::kWriteSlots, base, slots_.size(), count);
  slots_.resize(slots_.size() + count);
  return slots_.data() + slots_.size() - count;
}

void Plan::write_range(std::uint32_t id, const mesh_range& range) {
  add(OpKind::kWriteRange, id, ranges_.size());
  ranges_.push_back(range);
}

void Plan::write_service(std::uint32_t id, const mesh_service& service) {
  add(OpKind::kWriteService, id, services_.size());
  services_.push_back(service);
}

void Plan::store_state(std::uint32_t service_id, std::uint64_t state) {
  add(OpKind::kStoreState, service_id, states_.size());
  states_.push_back(state);
}

void Plan::write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) {
  add(OpKind::kWriteFrontend, service_id, frontends_.size());
  frontends_.push_back(key);
}

void Plan::erase_frontend(const mesh_frontend_key& key) {
  add(OpKind::kEraseFrontend, 0, frontends_.size());
  frontends_.push_back(key);
}

std::vector<std::string> Plan::describe(std::size_t limit) const {
  std::vector<std::string> lines;
  for (const Op& op : ops_) {
    if (lines.size() == limit) {
      lines.push_back(fmt::format("... and {} more", ops_.size() - limit));
      break;
    }
    switch (op.kind) {
      case OpKind::kWriteBackend: {
        const mesh_backend& backend = backends_[op.value];
        lines.push_back(fmt::format("backend {}: {} of service {}, weight {}, generation {}, {}", op.id,
                                    address_of(backend).to_string(), backend.service_id, backend.weight,
                                    backend.generation,
                                    (backend.flags & MESH_BACKEND_USABLE) != 0 ? "usable" : "not usable"));
        break;
      }
      case OpKind::kWriteSlots:
        lines.push_back(fmt::format("slots {} to {}: written", op.id, op.id + op.count - 1));
        break;
      case OpKind::kWriteRange: {
        const mesh_range& range = ranges_[op.value];
        lines.push_back(fmt::format(
            "range {}: {} entries of service {} from slot {}, {}, affinity {} s", op.id, range.count, range.service_id,
            range.base, model::to_string(static_cast<model::Algorithm>(range.algorithm)), range.affinity_timeout_s));
        break;
      }
      case OpKind::kWriteService:
        lines.push_back(services_[op.value].flags == 0
                            ? fmt::format("service {}: cleared", op.id)
                            : fmt::format("service {}: {}", op.id, to_string(services_[op.value].frontend)));
        break;
      case OpKind::kStoreState:
        lines.push_back(fmt::format("service {}: state <- generation {}, range {}", op.id, states_[op.value] >> 32,
                                    range_of(states_[op.value])));
        break;
      case OpKind::kWriteFrontend:
        lines.push_back(fmt::format("frontend {}: added as service {}", to_string(frontends_[op.value]), op.id));
        break;
      case OpKind::kEraseFrontend:
        lines.push_back(fmt::format("frontend {}: removed", to_string(frontends_[op.value])));
        break;
    }
  }
  return lines;
}

base::Result<void> apply(const Plan& plan, MapStore& store) {
  const auto carry_out = [&](const Plan::Op& op) -> base::Result<void> {
    switch (op.kind) {
      case OpKind::kWriteBackend:
        return store.write_backend(op.id, plan.backends_[op.value]);
      case OpKind::kWriteSlots:
        return store.write_slots(op.id, {plan.slots_.data() + op.value, op.count});
      case OpKind::kWriteRange:
        return store.write_range(op.id, plan.ranges_[op.value]);
      case OpKind::kWriteService:
        return store.write_service(op.id, plan.services_[op.value]);
      case OpKind::kStoreState:
        return store.store_state(op.id, plan.states_[op.value]);
      case OpKind::kWriteFrontend:
        return store.write_frontend(plan.frontends_[op.value], op.id);
      case OpKind::kEraseFrontend:
        return store.erase_frontend(plan.frontends_[op.value]);
    }
    return {};
  };
  for (const Plan::Op& op : plan.ops_) {
    base::Result<void> done = carry_out(op);
    for (int tries = 1; !done && done.error().errnum == EINTR && tries < kInterruptedTriesMax; ++tries) {
      done = carry_out(op);
    }
    if (!done) return done;
  }
  return {};
}

}  // namespace mesh::datapath
