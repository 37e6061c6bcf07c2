// SPDX-License-Identifier: Apache-2.0
#include "model/service.hpp"

#include <array>

namespace mesh::model {
namespace {

template <typename E>
using Name = std::pair<E, std::string_view>;

constexpr std::array<Name<Protocol>, 2> kProtocols = {{{Protocol::kTcp, "tcp"}, {Protocol::kUdp, "udp"}}};
constexpr std::array<Name<Algorithm>, 6> kAlgorithms = {{{Algorithm::kWeightedRandom, "weighted_random"},
                                                         {Algorithm::kRoundRobin, "round_robin"},
                                                         {Algorithm::kMaglev, "maglev"},
                                                         {Algorithm::kSourceHash, "source_hash"},
                                                         {Algorithm::kLeastConnections, "least_connections"},
                                                         {Algorithm::kLatency, "latency"}}};
constexpr std::array<Name<HashKey>, 4> kHashKeys = {{{HashKey::kNamespace, "namespace"},
                                                     {HashKey::kCgroup, "cgroup"},
                                                     {HashKey::kUid, "uid"},
                                                     {HashKey::kSourceAddress, "source_address"}}};
constexpr std::array<Name<ProbeType>, 4> kProbeTypes = {
    {{ProbeType::kTcp, "tcp"}, {ProbeType::kHttp, "http"}, {ProbeType::kHttps, "https"}, {ProbeType::kGrpc, "grpc"}}};
constexpr std::array<Name<ProbeWhen>, 2> kProbeWhens = {{{ProbeWhen::kUsed, "used"}, {ProbeWhen::kAlways, "always"}}};

template <typename E, std::size_t N>
std::string_view name_of(const std::array<Name<E>, N>& names, E value) {
  for (const auto& [candidate, text] : names) {
    if (candidate == value) return text;
  }
  return "unknown";
}

template <typename E, std::size_t N>
std::optional<E> value_of(const std::array<Name<E>, N>& names, std::string_view text) {
  for (const auto& [value, candidate] : names) {
    if (candidate == text) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string Frontend::to_string() const { return address.to_string() + "/" + std::string(model::to_string(protocol)); }

bool Service::same_as(const Service& other) const {
  const bool same_probe = probe == other.probe || (probe && other.probe && *probe == *other.probe);
  const bool same_tls = tls == other.tls || (tls && other.tls && *tls == *other.tls);
  return same_probe && same_tls && name == other.name && frontend == other.frontend && algorithm == other.algorithm &&
         hash_key == other.hash_key && maglev_size == other.maglev_size && affinity_timeout == other.affinity_timeout &&
         panic_threshold_percent == other.panic_threshold_percent && slow_start == other.slow_start &&
         prefer == other.prefer && prefer_threshold_percent == other.prefer_threshold_percent &&
         feedback == other.feedback && own_listeners == other.own_listeners &&
         relay_listeners == other.relay_listeners && ejection == other.ejection && drain == other.drain &&
         only_confirmed == other.only_confirmed && parts == other.parts && endpoints == other.endpoints;
}

std::string_view to_string(Protocol value) { return name_of(kProtocols, value); }
std::string_view to_string(Algorithm value) { return name_of(kAlgorithms, value); }
std::string_view to_string(HashKey value) { return name_of(kHashKeys, value); }
std::string_view to_string(ProbeType value) { return name_of(kProbeTypes, value); }
std::string_view to_string(ProbeWhen value) { return name_of(kProbeWhens, value); }
std::optional<Protocol> protocol_from(std::string_view text) { return value_of(kProtocols, text); }
std::optional<Algorithm> algorithm_from(std::string_view text) { return value_of(kAlgorithms, text); }
std::optional<HashKey> hash_key_from(std::string_view text) { return value_of(kHashKeys, text); }
std::optional<ProbeType> probe_type_from(std::string_view text) { return value_of(kProbeTypes, text); }
std::optional<ProbeWhen> probe_when_from(std::string_view text) { return value_of(kProbeWhens, text); }

}  // namespace mesh::model
