// SPDX-License-Identifier: Apache-2.0
#include "observe/istio.hpp"

#include <utility>

namespace mesh::observe {
namespace {

constexpr const char* kUnknown = "unknown";

/// "shop/orders" -> {"shop", "orders"}
std::pair<std::string, std::string> split(const std::string& name) {
  const auto slash = name.find('/');
  if (slash == std::string::npos) return {kUnknown, name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

}  // namespace

Labels IstioFamilies::labels_of(const Ledger::Service& key, const std::string& response_flags) const {
  const auto [space, name] = split(key.name);
  return {{"reporter", "source"},
          {"app", source_.workload},
          {"source_cluster", source_.cluster},
          {"source_workload", source_.workload},
          {"source_workload_namespace", source_.workload_namespace},
          {"source_principal", kUnknown},
          {"source_app", source_.workload},
          {"source_version", kUnknown},
          {"source_canonical_service", source_.workload},
          {"source_canonical_revision", "latest"},
          {"destination_cluster", source_.cluster},
          {"destination_workload", name},
          {"destination_workload_namespace", space},
          {"destination_principal", kUnknown},
          {"destination_app", name},
          {"destination_version", kUnknown},
          {"destination_service", space == kUnknown ? name : name + "." + space + ".svc.cluster.local"},
          {"destination_service_name", name},
          {"destination_service_namespace", space},
          {"destination_canonical_service", name},
          {"destination_canonical_revision", "latest"},
          {"destination_port", std::to_string(key.port)},
          {"request_protocol", "tcp"},
          {"response_flags", response_flags},
          {"connection_security_policy", "none"}};
}

void IstioFamilies::add(const Ledger::Service& key, const ServiceMetrics& service) {
  const Experience& experience = service.experience;
  const Labels plain = labels_of(key, "-");
  opened_.add(plain, number(experience.established));
  opened_.add(labels_of(key, "UF"), number(experience.ended[MESH_REFUSED] + experience.ended[MESH_TIMED_OUT] +
                                           experience.ended[MESH_UNREACHABLE]));   // upstream connection failure
  opened_.add(labels_of(key, "UH"), number(service.counters.refused_no_backend));  // no healthy upstream
  std::uint64_t closed = 0;
  for (const auto outcome : {MESH_CLOSED, MESH_RESET, MESH_LOST, MESH_RESET_BY_US, MESH_KILLED}) {
    closed += experience.ended[outcome];
  }
  closed_.add(plain, number(closed));
  sent_.add(plain, number(experience.bytes_in));
  received_.add(plain, number(experience.bytes_out));
}

void IstioFamilies::take(std::vector<prometheus::MetricFamily>& families) && {
  for (Family* family : {&opened_, &closed_, &sent_, &received_}) families.push_back(std::move(*family).take());
}

}  // namespace mesh::observe
