// SPDX-License-Identifier: Apache-2.0
// GET /v1/traffic: what the kernel's counters of services and backends stand at. Whoever wants rates asks twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

/// Sums since the backend, or the service, came; those of a service never fall: what backends that are gone had is in
/// them. What depends on `feedback` stays 0 without it.
struct TrafficCounts {
  std::uint64_t opened = 0;       ///< connect()s sent to a backend
  std::uint64_t closed = 0;       ///< of them: over
  std::uint64_t established = 0;  ///< TCP handshakes done
  std::uint64_t failed = 0;       ///< connect()s that failed: refused, timed out, unreachable
  std::uint64_t cut = 0;          ///< established, then reset by the peer, timed out or unreachable
  std::uint64_t bytes_out = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t retransmits = 0;
  std::uint64_t srtt_us = 0;  ///< sum of the last srtt of connections that ended well
  std::uint64_t srtt_count = 0;
  /// Connect latencies: bucket i holds those below 2^(i+1) us that bucket i-1 does not. Of a service every one, of a
  /// backend those of connections that have ended and were sampled.
  std::vector<std::uint64_t> latency;
  static void fields(auto& self, auto& visit) {
    visit("opened", self.opened);
    visit("closed", self.closed);
    visit("established", self.established);
    visit("failed", self.failed);
    visit("cut", self.cut);
    visit("bytes_out", self.bytes_out);
    visit("bytes_in", self.bytes_in);
    visit("retransmits", self.retransmits);
    visit("srtt_us", self.srtt_us);
    visit("srtt_count", self.srtt_count);
    visit("latency", self.latency);
  }
};

struct BackendTraffic {
  std::string address;
  std::uint32_t backend_id = 0;
  std::uint32_t generation = 0;  ///< another one is another backend
  TrafficCounts counts;
  static void fields(auto& self, auto& visit) {
    visit("address", self.address);
    visit("backend_id", self.backend_id);
    visit("generation", self.generation);
    visit("counts", self.counts);
  }
};

struct ServiceTraffic {
  std::string service;
  std::string frontend;
  bool feedback = true;
  std::uint64_t refused = 0;  ///< no usable backend, and the like
  TrafficCounts counts;
  std::vector<BackendTraffic> backends;
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("frontend", self.frontend);
    visit("feedback", self.feedback);
    visit("refused", self.refused);
    visit("counts", self.counts);
    visit("backends", self.backends);
  }
};

inline constexpr std::uint32_t kTrafficLimitDefault = 50;
inline constexpr std::uint32_t kTrafficLimitMax = 1000;

struct TrafficRequest {
  std::string service;                         ///< NAME, NAME:PORT or ADDR:PORT; empty: all
  std::uint32_t limit = kTrafficLimitDefault;  ///< services with the most connections
};

struct TrafficList {
  static constexpr std::string_view kKind = "TrafficList";
  double at_s = 0;  ///< of the host's monotonic clock
  std::vector<ServiceTraffic> items;
  std::uint64_t left_out = 0;  ///< services that had connections and are beyond the limit
  static void fields(auto& self, auto& visit) {
    visit("at_s", self.at_s);
    visit("items", self.items);
    visit("left_out", self.left_out);
  }
};

}  // namespace mesh::api
