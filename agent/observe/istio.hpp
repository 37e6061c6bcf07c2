// SPDX-License-Identifier: Apache-2.0
// The istio_tcp_* family, so that Kiali draws the graph unmodified: it reads Prometheus and skips every series that
// lacks one of these labels, so all are there, "unknown" where this node doesn't know. Opt-in (agent.metrics.istio).
// The cluster may not be unknown: Kiali draws no edge to a namespace it knows in a cluster that has no name.
//
// The reporter is "source": this node is where connections are made. Names are of services; what is behind one is a
// workload of the same name. A name "shop/orders" is service orders in namespace shop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "observe/ledger.hpp"
#include "observe/metric_family.hpp"
#include "observe/metrics.hpp"

namespace mesh::observe {

class IstioFamilies {
 public:
  static constexpr std::uint64_t kSeriesPerService = 6;

  explicit IstioFamilies(const IstioSource& source) : source_(source) {}
  void add(const Ledger::Service& key, const ServiceMetrics& service);
  void take(std::vector<prometheus::MetricFamily>& families) &&;

 private:
  [[nodiscard]] Labels labels_of(const Ledger::Service& key, const std::string& response_flags) const;

  IstioSource source_;
  Family opened_{"istio_tcp_connections_opened_total",
                 "TCP connections opened, and tries that failed (response_flags).", prometheus::MetricType::Counter};
  Family closed_{"istio_tcp_connections_closed_total", "TCP connections closed.", prometheus::MetricType::Counter};
  Family sent_{"istio_tcp_sent_bytes_total", "Bytes that the destination sent, as Istio counts: the response.",
               prometheus::MetricType::Counter};
  Family received_{"istio_tcp_received_bytes_total", "Bytes that the destination received: the request.",
                   prometheus::MetricType::Counter};
};

}  // namespace mesh::observe
