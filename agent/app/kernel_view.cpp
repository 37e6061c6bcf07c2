// SPDX-License-Identifier: Apache-2.0
#include "app/kernel_view.hpp"

#include "base/log.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"

namespace mesh::app {

api::ServiceCounters read_counters(const datapath::MapSet& maps, std::uint32_t service_id) {
  const datapath::ServiceCounts counts = datapath::read_service_counts(maps, service_id);
  return {counts.connects,           counts.datagrams, counts.refused,
          counts.refused_no_backend, counts.passed,    counts.affinity_hits};
}

void KernelView::refresh(std::uint64_t applies) {
  if (made_at_ == applies) return;
  made_at_ = applies;
  ids_.clear();
  const auto& store = datapath_.store();
  const auto read = store.for_each_frontend([this](const mesh_frontend_key& key, std::uint32_t service_id) {
    ids_[datapath::frontend_of(key)] = service_id;
  });
  if (!read) base::log::warn("frontends not read", {{"err", read.error()}});
  backends_.emplace(store);
}

std::uint32_t KernelView::service_id(const model::Frontend& frontend) const {
  const auto found = ids_.find(frontend);
  return found == ids_.end() ? 0 : found->second;
}

const std::vector<datapath::BackendIndex::Entry>& KernelView::backends(std::uint32_t service_id) const {
  return backends_->of(service_id);
}

datapath::ServiceTables KernelView::tables(std::uint32_t service_id) const {
  return service_id == 0 ? datapath::ServiceTables{} : datapath::read_service_tables(datapath_.store(), service_id);
}

std::uint64_t KernelView::pass_until_ns(std::uint32_t service_id) const {
  return service_id == 0 ? 0 : datapath_.store().service(service_id).pass_until_ns;
}

api::ServiceCounters KernelView::counters(std::uint32_t service_id) const {
  return service_id == 0 ? api::ServiceCounters{} : read_counters(datapath_.maps(), service_id);
}

std::uint64_t KernelView::picks(std::uint32_t backend_id) const {
  return datapath::read_backend_live(datapath_.maps(), backend_id).opened;
}

}  // namespace mesh::app
