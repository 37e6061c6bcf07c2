// SPDX-License-Identifier: Apache-2.0
#include "observe/metrics_services.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "observe/istio.hpp"

namespace mesh::observe {
namespace {

using prometheus::MetricType;

constexpr std::array<std::string_view, MESH_OUTCOMES> kOutcomeNames = {
    "none", "closed", "refused", "timed_out", "unreachable", "aborted", "reset", "lost", "reset_by_us", "killed",
};

/// Bounds of mesh_connect_latency_seconds: 64 us, and each twice the one before up to 8.4 s. A kernel bucket i holds
/// latencies below 2^(i+1) us; what is below the first bound is one bucket here.
constexpr std::size_t kFirstBucket = 5;
constexpr std::size_t kLatencyBounds = MESH_LATENCY_BUCKETS - 1 - kFirstBucket;

std::vector<double> latency_bounds_s() {
  std::vector<double> bounds;
  for (std::size_t i = kFirstBucket; i + 1 < MESH_LATENCY_BUCKETS; ++i) {
    bounds.push_back(static_cast<double>(std::uint64_t{2} << i) * 1e-6);
  }
  return bounds;
}

std::vector<std::uint64_t> latency_counts(const Experience& experience) {
  std::vector<std::uint64_t> counts(kLatencyBounds + 1);
  for (std::size_t i = 0; i < MESH_LATENCY_BUCKETS; ++i) {
    counts[std::max(i, kFirstBucket) - kFirstBucket] += experience.latency[i];
  }
  return counts;
}

bool has_tcp_feedback(const Ledger::Service& key, const ServiceMetrics& service) {
  return service.feedback && key.protocol == model::Protocol::kTcp;
}

/// Most services never see one: their series begin with the first.
bool has_ejections(const ServiceMetrics& service) { return service.ejections != EjectionMetrics{}; }

constexpr std::uint64_t kSeriesOfBackend = 10;

/// Lines of one service, without its backends.
std::uint64_t series_of_service(const Ledger::Service& key, const ServiceMetrics& service) {
  constexpr std::uint64_t kAlways = 7 + kEligibilities;
  constexpr std::uint64_t kFeedback = MESH_OUTCOMES - 1;
  constexpr std::uint64_t kTcpFeedback = 4 + kLatencyBounds + 3;
  const std::uint64_t ejections = has_ejections(service) ? 4 : 0;
  return kAlways + ejections + (service.feedback ? kFeedback : 0) + (has_tcp_feedback(key, service) ? kTcpFeedback : 0);
}

/// One label set per backend, also where services that are shown as one have it both.
void merge_backends(std::vector<BackendMetrics>& backends) {
  std::ranges::sort(backends, {}, &BackendMetrics::address);
  std::vector<BackendMetrics> merged;
  for (BackendMetrics& backend : backends) {
    if (merged.empty() || merged.back().address != backend.address) {
      merged.push_back(std::move(backend));
      continue;
    }
    BackendMetrics& sum = merged.back();
    sum.live.opened += backend.live.opened;
    sum.live.closed += backend.live.closed;
    sum.live.established += backend.live.established;
    sum.live.failed += backend.live.failed;
    sum.live.srtt_us = std::max(sum.live.srtt_us, backend.live.srtt_us);
    sum.outcomes.bytes_out += backend.outcomes.bytes_out;
    sum.outcomes.bytes_in += backend.outcomes.bytes_in;
    sum.outcomes.retransmits += backend.outcomes.retransmits;
    sum.outcomes.connect_us += backend.outcomes.connect_us;
    sum.latency_s = std::max(sum.latency_s, backend.latency_s);
  }
  backends = std::move(merged);
}

using Merged = std::map<Ledger::Service, ServiceMetrics>;
using Entry = Merged::value_type;

/// Services with the same labels are one.
Merged merge(const std::vector<ServiceMetrics>& services) {
  Merged merged;
  for (const ServiceMetrics& service : services) {
    ServiceMetrics& sum = merged[{service.name, service.port, service.protocol}];
    sum.counters.connects += service.counters.connects;
    sum.counters.datagrams += service.counters.datagrams;
    sum.counters.refused += service.counters.refused;
    sum.counters.refused_no_backend += service.counters.refused_no_backend;
    sum.counters.passed += service.counters.passed;
    sum.counters.affinity_hits += service.counters.affinity_hits;
    for (std::size_t i = 0; i < kEligibilities; ++i) sum.endpoints[i] += service.endpoints[i];
    sum.active += service.active;
    sum.ejections.consecutive += service.ejections.consecutive;
    sum.ejections.rate += service.ejections.rate;
    sum.ejections.relapse += service.ejections.relapse;
    sum.ejections.withheld += service.ejections.withheld;
    sum.feedback = sum.feedback || service.feedback;
    sum.experience = service.experience;  // the ledger's, which adds up by itself
    sum.backends.insert(sum.backends.end(), service.backends.begin(), service.backends.end());
  }
  for (auto& [key, service] : merged) merge_backends(service.backends);
  return merged;
}

std::uint64_t use_of(const ServiceMetrics& service) {
  return service.counters.connects + service.counters.datagrams + service.counters.refused;
}

Labels labels_of(const Ledger::Service& key) {
  return {{"service", key.name},
          {"port", std::to_string(key.port)},
          {"protocol", std::string(model::to_string(key.protocol))}};
}

Labels with(Labels labels, const char* name, std::string value) {
  labels.push_back({name, std::move(value)});
  return labels;
}

double seconds(std::uint64_t us) { return static_cast<double>(us) * 1e-6; }

class Services {
 public:
  void add(const Ledger::Service& key, const ServiceMetrics& service) {
    const Labels labels = labels_of(key);
    const auto& counters = service.counters;
    connects_.add(labels, number(counters.connects));
    datagrams_.add(labels, number(counters.datagrams));
    refused_.add(with(labels, "reason", "no_backend"), number(counters.refused_no_backend));
    refused_.add(with(labels, "reason", "other"),
                 number(counters.refused - std::min(counters.refused, counters.refused_no_backend)));
    passed_.add(labels, number(counters.passed));
    affinity_.add(labels, number(counters.affinity_hits));
    for (std::size_t i = 0; i < kEligibilities; ++i) {
      endpoints_.add(with(labels, "state", std::string(model::to_string(static_cast<model::Eligibility>(i)))),
                     number(service.endpoints[i]));
    }
    active_.add(labels, number(service.active));
    if (has_ejections(service)) {
      ejections_.add(with(labels, "reason", "consecutive_failures"), number(service.ejections.consecutive));
      ejections_.add(with(labels, "reason", "failure_rate"), number(service.ejections.rate));
      ejections_.add(with(labels, "reason", "failed_on_probation"), number(service.ejections.relapse));
      withheld_.add(labels, number(service.ejections.withheld));
    }
    const Experience& experience = service.experience;
    for (std::size_t i = 1; service.feedback && i < MESH_OUTCOMES; ++i) {
      ended_.add(with(labels, "outcome", std::string(kOutcomeNames[i])), number(experience.ended[i]));
    }
    if (!has_tcp_feedback(key, service)) return;
    established_.add(labels, number(experience.established));
    sent_.add(labels, number(experience.bytes_out));
    received_.add(labels, number(experience.bytes_in));
    retransmits_.add(labels, number(experience.retransmits));
    latency_.add_histogram(labels, bounds_s_, latency_counts(experience), seconds(experience.connect_us));
  }

  void take(std::vector<prometheus::MetricFamily>& families) && {
    for (Family* family : {&connects_, &datagrams_, &refused_, &passed_, &affinity_, &endpoints_, &active_, &ejections_,
                           &withheld_, &established_, &ended_, &sent_, &received_, &retransmits_, &latency_}) {
      families.push_back(std::move(*family).take());
    }
  }

 private:
  const std::vector<double> bounds_s_ = latency_bounds_s();
  Family connects_{"mesh_service_connects_total", "TCP and UDP connect() sent to a backend.", MetricType::Counter};
  Family datagrams_{"mesh_service_datagrams_total", "Unconnected UDP sends sent to a backend.", MetricType::Counter};
  Family refused_{"mesh_service_refused_total", "Connects and sends refused, by reason.", MetricType::Counter};
  Family passed_{"mesh_service_passed_total", "Connects let through because the service is paused.",
                 MetricType::Counter};
  Family affinity_{"mesh_service_affinity_hits_total", "Connects that session affinity sent to the same backend.",
                   MetricType::Counter};
  Family endpoints_{"mesh_service_endpoints", "Endpoints, by why they get new connections or not.", MetricType::Gauge};
  Family active_{"mesh_service_active_connections", "Connected sockets that are open now.", MetricType::Gauge};
  Family ejections_{"mesh_ejections_total", "Endpoints taken out because their connections failed, by reason.",
                    MetricType::Counter};
  Family withheld_{"mesh_ejections_withheld_total", "Endpoints left in because too many were out already.",
                   MetricType::Counter};
  Family established_{"mesh_service_established_total", "TCP handshakes done.", MetricType::Counter};
  Family ended_{"mesh_service_ended_total", "Connections that failed or ended, by how.", MetricType::Counter};
  Family sent_{"mesh_service_sent_bytes_total", "TCP payload written by applications, counted when a connection ends.",
               MetricType::Counter};
  Family received_{"mesh_service_received_bytes_total", "TCP payload that arrived, counted when a connection ends.",
                   MetricType::Counter};
  Family retransmits_{"mesh_service_retransmits_total", "TCP segments sent again, counted when a connection ends.",
                      MetricType::Counter};
  Family latency_{"mesh_connect_latency_seconds", "Time from connect() to the end of the TCP handshake.",
                  MetricType::Histogram};
};

class Backends {
 public:
  void add(const Ledger::Service& key, const BackendMetrics& backend) {
    const Labels labels = with(labels_of(key), "backend", backend.address);
    opened_.add(labels, number(backend.live.opened));
    active_.add(labels, number(backend.live.opened - std::min(backend.live.opened, backend.live.closed)));
    established_.add(labels, number(backend.live.established));
    failed_.add(labels, number(backend.live.failed));
    sent_.add(labels, number(backend.outcomes.bytes_out));
    received_.add(labels, number(backend.outcomes.bytes_in));
    retransmits_.add(labels, number(backend.outcomes.retransmits));
    connect_.add(labels, seconds(backend.outcomes.connect_us));
    srtt_.add(labels, seconds(backend.live.srtt_us));
    latency_.add(labels, backend.latency_s);
  }

  void take(std::vector<prometheus::MetricFamily>& families) && {
    for (Family* family : {&opened_, &active_, &established_, &failed_, &sent_, &received_, &retransmits_, &connect_,
                           &srtt_, &latency_}) {
      families.push_back(std::move(*family).take());
    }
  }

 private:
  Family opened_{"mesh_backend_opened_total", "connect()s sent to the backend.", MetricType::Counter};
  Family active_{"mesh_backend_active_connections", "Of them, sockets that are open now.", MetricType::Gauge};
  Family established_{"mesh_backend_established_total", "TCP handshakes done.", MetricType::Counter};
  Family failed_{"mesh_backend_failed_total", "connect()s refused, timed out or unreachable.", MetricType::Counter};
  Family sent_{"mesh_backend_sent_bytes_total", "TCP payload sent, counted when a connection ends.",
               MetricType::Counter};
  Family received_{"mesh_backend_received_bytes_total", "TCP payload received, counted when a connection ends.",
                   MetricType::Counter};
  Family retransmits_{"mesh_backend_retransmits_total", "TCP segments sent again, counted when a connection ends.",
                      MetricType::Counter};
  Family connect_{"mesh_backend_connect_seconds_total",
                  "Sum of connect latencies, over mesh_backend_established_total.", MetricType::Counter};
  Family srtt_{"mesh_backend_srtt_seconds", "Smoothed round trip time of the connection that was closed last.",
               MetricType::Gauge};
  Family latency_{"mesh_backend_latency_seconds", "Peak EWMA of connection times, as balance: latency sees it.",
                  MetricType::Gauge};
};

}  // namespace

ServicePart service_part(const MetricsInput& input, std::uint64_t room) {
  const Merged merged = merge(input.services);
  std::vector<const Entry*> order;
  for (const Entry& entry : merged) order.push_back(&entry);
  std::ranges::sort(order, [](const Entry* a, const Entry* b) {
    return std::pair(use_of(b->second), a->first) < std::pair(use_of(a->second), b->first);
  });

  ServicePart part;
  Services services;
  for (const Entry* entry : order) {
    const std::uint64_t need = series_of_service(entry->first, entry->second);
    if (need > room) {
      part.dropped += need;
      room = 0;
      continue;
    }
    room -= need;
    services.add(entry->first, entry->second);
  }
  std::move(services).take(part.families);

  Backends backends;
  for (const Entry* entry : order) {
    for (const BackendMetrics& backend : entry->second.backends) {
      const bool fits = kSeriesOfBackend <= room;
      (fits ? room : part.dropped) += fits ? -kSeriesOfBackend : kSeriesOfBackend;
      if (fits) backends.add(entry->first, backend);
    }
  }
  std::move(backends).take(part.families);

  if (input.istio) {
    IstioFamilies istio(*input.istio);
    for (const Entry* entry : order) {
      if (!has_tcp_feedback(entry->first, entry->second)) continue;
      const bool fits = IstioFamilies::kSeriesPerService <= room;
      (fits ? room : part.dropped) += fits ? -IstioFamilies::kSeriesPerService : IstioFamilies::kSeriesPerService;
      if (fits) istio.add(entry->first, entry->second);
    }
    std::move(istio).take(part.families);
  }
  return part;
}

}  // namespace mesh::observe
