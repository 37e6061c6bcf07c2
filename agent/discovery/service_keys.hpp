// SPDX-License-Identifier: Apache-2.0
// What a service and an endpoint look like in a file, in meshd.yaml and in service files alike. The keys of a probe are
// in discovery/probe_keys.hpp.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "discovery/keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

template <>
struct EnumNames<model::Protocol> {
  static constexpr std::array<std::string_view, 2> kNames = {"tcp", "udp"};
  static constexpr std::array<model::Protocol, 2> kValues = {model::Protocol::kTcp, model::Protocol::kUdp};
};

/// What `defaults:` can set, and each service can set for itself.
struct ServicePolicy {
  model::Algorithm balance = model::Algorithm::kWeightedRandom;
  model::HashKey hash_key = model::HashKey::kNamespace;
  std::chrono::seconds affinity_timeout{0};
  unsigned panic_threshold = 50;  ///< Percent.
  std::uint32_t maglev_size = 4093;
  model::Preference prefer = model::Preference::kNone;
  unsigned prefer_threshold = 80;  ///< Percent.
  std::chrono::seconds slow_start{0};
  bool feedback = true;
  model::EjectionPolicy ejection;
  model::DrainPolicy drain;
  std::shared_ptr<const model::TlsPolicy> tls;
  std::shared_ptr<const model::ProbePolicy> probe;
  bool operator==(const ServicePolicy&) const;
};

/// Gives a service what its policy says.
void apply_policy(const ServicePolicy& policy, model::Service& service);

/// A service as it is written; `protocol: [tcp, udp]` becomes two model services.
struct ServiceSpec {
  std::string name;
  base::SocketAddress address;
  std::vector<model::Protocol> protocols{model::Protocol::kTcp};
  ServicePolicy policy;
  std::optional<std::vector<model::Endpoint>> endpoints;  ///< Sorted.
  std::string file;
};

/// 1 to 253 of a-z 0-9 . - / _
[[nodiscard]] bool is_service_name(std::string_view text);

extern const Table kPolicyTable;    // ServicePolicy
extern const Table kEndpointTable;  // model::Endpoint
extern const Table kServiceTable;   // ServiceSpec

/// Decodes the services and endpoints of one file. Equal probe settings share one object.
class ServiceDecoder {
 public:
  enum class FileKey { kAllowed, kRefused };  ///< `file:` stands in meshd.yaml only.

  ServiceDecoder(Decoder& decoder, const ServicePolicy& defaults, FileKey file_key, std::string origin_name)
      : decoder_(decoder), defaults_(defaults), file_key_(file_key), origin_name_(std::move(origin_name)) {}

  /// The services share name, address and endpoints, one per protocol, origin "NAME:LINE".
  struct Decoded {
    std::vector<model::Service> services;
    std::string file;  ///< Of `file:`; then the services have no endpoints yet.
    Place address_place;
  };
  /// Nothing if it has no address to compare with those of others. Whether it is right, the decoder's findings say.
  std::optional<Decoded> service(const Value& value);

  /// One element of `endpoints`: a map, or only its address.
  bool endpoint(const Value& value, model::Endpoint& out);

  void probe(const Value& value, ServicePolicy& policy);

 private:
  void check_service_tls(const Value& tls, const ServiceSpec& spec);

  Decoder& decoder_;
  const ServicePolicy& defaults_;
  FileKey file_key_;
  std::string origin_name_;
  std::unordered_multimap<std::size_t, std::shared_ptr<const model::ProbePolicy>> probes_;
};

/// Sorts endpoints; an address that stands twice is returned.
std::optional<base::SocketAddress> sort_endpoints(std::vector<model::Endpoint>& endpoints);

/// Why this can't be an endpoint of that frontend, with a suggestion: the other family, or the frontend itself.
std::optional<std::pair<std::string, std::string>> endpoint_problem(const base::SocketAddress& endpoint,
                                                                    const base::SocketAddress& frontend);

/// The prime at or below `number`, and at or above.
std::pair<std::uint32_t, std::uint32_t> nearest_primes(std::uint32_t number);

/// A service as a map that decodes to the same with default defaults; changed keys only.
Value encode_service(const model::Service& service, Secrets secrets, Encode what = Encode::kChanged);

}  // namespace mesh::discovery
