// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_map_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "datapath/records.hpp"

namespace mesh::support {

FakeMapStore::FakeMapStore(const datapath::TableSizes& sizes)
    : sizes_(sizes),
      services_(sizes.services),
      states_(sizes.services),
      ranges_(sizes.ranges),
      slots_(sizes.slots),
      backends_(sizes.backends) {}

void FakeMapStore::fail(std::uint64_t at, int errnum, std::uint64_t times) {
  fail_from_ = calls_ + at;
  fail_until_ = times > std::numeric_limits<std::uint64_t>::max() - fail_from_
                    ? std::numeric_limits<std::uint64_t>::max()
                    : fail_from_ + times;
  errnum_ = errnum;
}

base::Result<void> FakeMapStore::admit(const char* what) {
  const std::uint64_t call = calls_++;
  if (call >= fail_from_ && call < fail_until_) return base::fail_errno(errnum_, what);
  return {};
}

base::Result<void> FakeMapStore::written() {
  ++writes_;
  if (hook_) hook_();
  return {};
}

base::Result<void> FakeMapStore::write_backend(std::uint32_t id, const mesh_backend& backend) {
  MESH_CHECK(admit("write backend"));
  backends_.at(id) = backend;
  return written();
}

base::Result<void> FakeMapStore::write_slots(std::uint32_t base, std::span<const mesh_slot> slots) {
  MESH_CHECK(admit("write slots"));
  MESH_ASSERT(base + slots.size() <= slots_.size());
  std::copy(slots.begin(), slots.end(), slots_.begin() + base);
  return written();
}

base::Result<void> FakeMapStore::write_range(std::uint32_t id, const mesh_range& range) {
  MESH_CHECK(admit("write range"));
  MESH_ASSERT(id > MESH_RANGE_EMPTY);
  ranges_.at(id) = range;
  return written();
}

base::Result<void> FakeMapStore::write_service(std::uint32_t id, const mesh_service& service) {
  MESH_CHECK(admit("write service"));
  services_.at(id) = service;
  return written();
}

base::Result<void> FakeMapStore::store_state(std::uint32_t service_id, std::uint64_t state) {
  MESH_CHECK(admit("store state"));
  states_.at(service_id) = state;
  return written();
}

base::Result<void> FakeMapStore::write_frontend(const mesh_frontend_key& key, std::uint32_t service_id) {
  MESH_CHECK(admit("write frontend"));
  frontends_[datapath::frontend_of(key)] = service_id;
  return written();
}

base::Result<void> FakeMapStore::erase_frontend(const mesh_frontend_key& key) {
  MESH_CHECK(admit("erase frontend"));
  frontends_.erase(datapath::frontend_of(key));
  return written();
}

base::Result<void> FakeMapStore::for_each_frontend(
    const std::function<void(const mesh_frontend_key&, std::uint32_t)>& visit) const {
  for (const auto& [frontend, id] : frontends_) visit(datapath::key_of(frontend), id);
  return {};
}

std::optional<std::uint32_t> FakeMapStore::find_frontend(const model::Frontend& frontend) const {
  const auto found = frontends_.find(frontend);
  return found == frontends_.end() ? std::nullopt : std::optional(found->second);
}

void FakeReader::end(std::string result) {
  result_ = std::move(result);
  step_ = kSteps;
}

void FakeReader::step() {
  MESH_ASSERT(!done());
  switch (step_++) {
    case 0: {
      const std::optional<std::uint32_t> id = store_->find_frontend(frontend_);
      if (!id) return end("not a service");
      service_id_ = *id;
      return;
    }
    case 1:
      if (!datapath::same(store_->service(service_id_).frontend, datapath::key_of(frontend_))) {
        end("error: the service's record names another frontend");
      }
      return;
    case 2:
      range_id_ = datapath::range_of(store_->state(service_id_));
      if (range_id_ == 0) return end("error: the service has no table");
      if (range_id_ == MESH_RANGE_EMPTY) return end("refused");
      return;
    case 3:
      range_ = store_->range(range_id_);
      if (range_.service_id != service_id_) return end("error: the range is another service's");
      return;
    case 4: {
      const std::uint32_t width = mesh_slots_per_entry(range_.algorithm);
      for (std::uint32_t i = 0; i < range_.count * width; ++i) {
        slots_.push_back(store_->slot(range_.base + i));
        if (i % width == 0 && slots_.back().tag != service_id_) return end("error: the slot is another service's");
      }
      return;
    }
    default: {
      const bool pairs = mesh_slots_per_entry(range_.algorithm) == 2;
      std::string table = fmt::format("algorithm {} key {} seed {} affinity {}:", range_.algorithm, range_.hash_key,
                                      range_.seed, range_.affinity_timeout_s);
      for (std::size_t i = 0; i < slots_.size(); ++i) {
        const mesh_backend backend = store_->backend(slots_[i].backend_id);
        if (backend.service_id != service_id_) return end("error: the backend is another service's");
        const bool alias = pairs && i % 2 == 1;
        table += (alias ? '|' : ' ') + datapath::address_of(backend).to_string();
        if (alias) table += fmt::format("@{}", slots_[i].tag);
      }
      end(std::move(table));
    }
  }
}

std::string FakeReader::finish() {
  while (!done()) step();
  return result_;
}

}  // namespace mesh::support
