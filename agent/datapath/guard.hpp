// SPDX-License-Identifier: Apache-2.0
// Plaintext to workloads that other nodes reach over mutual TLS: counted, and refused from a moment on, by
// bpf/guard.bpf.c in this process's network namespace. The program is there only while there is something to guard. It
// stays when the agent goes, with its tables; the next agent fills new ones before it takes its place.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/address.hpp"
#include "base/error.hpp"

namespace mesh::datapath {

/// Descriptors of somebody else's.
struct GuardPrograms {
  int guard = -1;
  int guarded = -1;  ///< The maps.
  int counts = -1;
};

struct GuardedEndpoint {
  std::chrono::nanoseconds until{};  ///< CLOCK_BOOTTIME; plaintext is taken until then. 0: never; max(): for good.
  std::uint32_t service = 0;         ///< Whose counts; any number.
  bool operator==(const GuardedEndpoint&) const = default;
};
using GuardedEndpoints = std::map<base::SocketAddress, GuardedEndpoint>;

struct GuardCounts {
  std::uint64_t taken = 0;  ///< Plaintext connections, since the guard was made, as the next.
  std::uint64_t refused = 0;
  std::optional<base::IpAddress> source;  ///< Of the last one.
};

class Guard {
 public:
  Guard(GuardPrograms programs, std::string pin) : programs_(programs), pin_(std::move(pin)) {}

  /// Makes it so, and begins or ends the guard. On an error the endpoints that were written are guarded, and those
  /// before that were not: kExhausted if there are more than MESH_GUARDED_MAX. Counts of services that none names are
  /// forgotten.
  base::Result<void> update(const GuardedEndpoints& wanted);
  [[nodiscard]] base::Result<GuardCounts> counts(std::uint32_t service) const;

 private:
  base::Result<void> write(const GuardedEndpoints& wanted);
  base::Result<void> attach();

  GuardPrograms programs_;
  std::string pin_;
  GuardedEndpoints written_;
  std::set<std::uint32_t> services_;  ///< That have counts.
  bool attached_ = false;
};

}  // namespace mesh::datapath
