// SPDX-License-Identifier: Apache-2.0
// What the metrics page says per service: counters and books from the kernel's tables, added up in a ledger. A look
// costs two system calls per table of books, not one per backend; services that were never used cost one load.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "app/ejector.hpp"
#include "app/reconciler.hpp"
#include "datapath/loader.hpp"
#include "observe/ledger.hpp"
#include "observe/metrics.hpp"

namespace mesh::app {

class ServiceMetricsReader {
 public:
  ServiceMetricsReader(datapath::Datapath& datapath, bool per_backend)
      : datapath_(datapath), per_backend_(per_backend) {}

  /// What stands in the books now happened before this agent: it is not reported.
  base::Result<void> begin();
  /// Fills services, endpoints, on_probation and services_without_backend. From any thread.
  base::Result<void> read(const Reconciled& reconciled, const EjectionsByService& ejections,
                          observe::MetricsInput& input);
  /// What connections to the address experienced, also those to endpoints that are gone, since the tables were made as
  /// far as an agent saw it; without latencies. As of the last look; read() and note() look. From any thread.
  [[nodiscard]] observe::Experience of(const model::Frontend& frontend) const;
  /// Looks, so that an endpoint that goes next takes nothing with it. From any thread.
  base::Result<void> note(const Reconciled& reconciled);

 private:
  struct Owned {
    observe::Ledger::Service key;
    std::size_t index = 0;  ///< In MetricsInput::services.
  };
  using OwnedIds = std::unordered_map<std::uint32_t, Owned>;  ///< By service id.
  base::Result<void> look(const OwnedIds& owned, std::vector<observe::ServiceMetrics>& services);

  datapath::Datapath& datapath_;
  const bool per_backend_;
  mutable std::mutex mutex_;
  observe::Ledger ledger_;
};

}  // namespace mesh::app
