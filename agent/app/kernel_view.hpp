// SPDX-License-Identifier: Apache-2.0
// The kernel tables as admin requests look at them: ids by frontend, backends by service, live counters. The index is
// one pass over the tables (some milliseconds at full size) and is kept until the next plan was applied.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "api/services.hpp"
#include "api/status.hpp"
#include "datapath/inspect.hpp"
#include "datapath/loader.hpp"
#include "model/health_view.hpp"

namespace mesh::app {

class KernelView {
 public:
  explicit KernelView(datapath::Datapath& datapath) : datapath_(datapath) {}

  /// Makes the index anew if tables were applied since. `applies` counts them.
  void refresh(std::uint64_t applies);

  [[nodiscard]] std::uint32_t service_id(const model::Frontend& frontend) const;  ///< 0: not in the kernel
  [[nodiscard]] const std::vector<datapath::BackendIndex::Entry>& backends(std::uint32_t service_id) const;
  [[nodiscard]] datapath::ServiceTables tables(std::uint32_t service_id) const;
  [[nodiscard]] std::uint64_t pass_until_ns(std::uint32_t service_id) const;
  [[nodiscard]] api::ServiceCounters counters(std::uint32_t service_id) const;
  [[nodiscard]] std::uint64_t picks(std::uint32_t backend_id) const;

 private:
  datapath::Datapath& datapath_;
  std::optional<std::uint64_t> made_at_;
  std::unordered_map<model::Frontend, std::uint32_t, model::FrontendHash> ids_;
  std::optional<datapath::BackendIndex> backends_;
};

api::ServiceCounters read_counters(const datapath::MapSet& maps, std::uint32_t service_id);

}  // namespace mesh::app
