// SPDX-License-Identifier: Apache-2.0
// What connections experienced, per service, since the agent began to look: sums that only grow. The kernel's books are
// of a backend and vanish with it, and those of a service stay behind under its id for the next one; taken as they are,
// a backend that goes would look like a counter that starts anew, and its neighbours' counts like a burst.
//
// Each look adds what the books say more than at the look before: to the sum of the service's name, which the metrics
// show, and to that of its address. What nobody owns is remembered, not added to a name: so is everything at the first
// look. The sum of an address has it all.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <unordered_map>

#include "mesh_abi.h"
#include "model/health_view.hpp"
#include "model/service.hpp"

namespace mesh::observe {

struct Experience {
  std::uint64_t established = 0;  ///< TCP handshakes done.
  std::uint64_t failed = 0;       ///< connect()s that failed: refused, timed out, unreachable.
  std::array<std::uint64_t, MESH_OUTCOMES> ended{};
  std::uint64_t bytes_out = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t retransmits = 0;
  std::uint64_t srtt_us = 0;                                  ///< Sum of the last srtt of those that ended well.
  std::uint64_t connect_us = 0;                               ///< Sum of connect latencies.
  std::array<std::uint64_t, MESH_LATENCY_BUCKETS> latency{};  ///< Counts; bounds as in mesh_latency.h.
  bool operator==(const Experience&) const = default;
};

class Ledger {
 public:
  /// Services with the same name, port and protocol are one: labels hold no addresses.
  struct Service {
    std::string name;
    std::uint16_t port = 0;
    model::Protocol protocol = model::Protocol::kTcp;
    auto operator<=>(const Service&) const = default;
  };

  /// Between begin() and end(): every backend id and every service id, each once. `service` is null for what belongs
  /// to none now.
  void begin() { ++round_; }
  void add(const Service* service, const model::Frontend& frontend, std::uint32_t backend_id, std::uint32_t generation,
           const mesh_backend_live& live, const mesh_backend_outcomes& outcomes);
  void add(const Service* service, std::uint32_t service_id, const mesh_service_latency& latency);
  /// The sums of what is met are kept, also while no backend has anything in its books.
  void meet(const Service& service) { sums_[service].round = round_; }
  void meet(const model::Frontend& frontend) { by_frontend_[frontend].round = round_; }
  /// Forgets services and backends that the look did not meet.
  void end();

  /// All zero for a service that nothing is known of.
  [[nodiscard]] const Experience& of(const Service& service) const;
  /// Without latencies.
  [[nodiscard]] const Experience& of(const model::Frontend& frontend) const;
  [[nodiscard]] std::size_t size() const { return backends_.size(); }  ///< Backends remembered.

 private:
  struct Hash {
    std::size_t operator()(const Service& service) const;
  };
  struct Sum {
    Experience experience;
    std::uint64_t round = 0;
  };
  struct BackendSeen {
    std::uint32_t generation = 0;
    std::uint64_t round = 0;
    std::uint64_t established = 0;
    std::uint64_t failed = 0;
    mesh_backend_outcomes outcomes{};
  };
  Experience& sum_of(const Service& service);

  std::uint64_t round_ = 0;
  std::unordered_map<Service, Sum, Hash> sums_;
  std::unordered_map<model::Frontend, Sum, model::FrontendHash> by_frontend_;
  std::unordered_map<std::uint32_t, BackendSeen> backends_;            ///< By backend id.
  std::unordered_map<std::uint32_t, mesh_service_latency> latencies_;  ///< By service id.
};

}  // namespace mesh::observe
