// SPDX-License-Identifier: Apache-2.0
// Clients that connect as an unmodified application does, from a host and a cgroup of the lab.
//
// call() makes a number of calls and says for each which backend answered. ConnectLoop connects in a tight loop over
// TCP and UDP, IPv4 and IPv6, until it is told to stop, and counts what failed: the witness of restarts and upgrades.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "tests/support/lab.hpp"

namespace mesh::test {

enum class Via : std::uint8_t {
  kTcp,             ///< connect(), read the name.
  kTcpMapped,       ///< The same to an IPv4 address through an AF_INET6 socket.
  kUdpConnected,    ///< connect(), send, receive.
  kUdpUnconnected,  ///< sendto(), recvfrom() on a socket of its own.
};
std::string_view to_string(Via via);

/// What one call found.
struct Call {
  std::string backend;  ///< The name the server gave; empty if the call failed.
  int errnum = 0;       ///< errno of the failure; ETIMEDOUT when no answer came in time.
  std::string peer;     ///< getpeername() or the source of the reply, as the application sees it.
  double connect_ms = 0;
};

/// Makes `count` calls in a row, each on a new socket.
std::vector<Call> call(const SpawnOptions& where, Via via, const std::string& address, int count,
                       std::chrono::milliseconds timeout = std::chrono::seconds(2));

/// How many calls each backend answered; failures are counted under "errno NAME".
std::map<std::string, int> tally(const std::vector<Call>& calls);

struct LoopTarget {
  Via via = Via::kTcp;
  std::string address;
};

class ConnectLoop {
 public:
  static constexpr std::size_t kTargets = 8;

  struct Counts {
    std::uint64_t attempts = 0;
    std::uint64_t failures = 0;
    int first_errno = 0;
    double longest_ms = 0;
  };

  /// Starts calling all targets in turn, at most eight, as fast as it goes. A UDP call is a failure when no answer
  /// comes within a second; a TCP call when connect() fails.
  ConnectLoop(const SpawnOptions& where, std::vector<LoopTarget> targets);

  /// Waits until every target was called at least `rounds` more times; false if that takes over ten seconds.
  [[nodiscard]] bool await_rounds(std::uint64_t rounds) const;
  [[nodiscard]] std::uint64_t attempts() const;
  [[nodiscard]] std::uint64_t failures() const;
  /// Ends the loop and returns the counts per target, in the order given.
  std::vector<Counts> finish();

 private:
  struct Cell {
    std::atomic<std::uint64_t> attempts{0};
    std::atomic<std::uint64_t> failures{0};
    std::atomic<int> first_errno{0};
    std::atomic<std::uint64_t> longest_ns{0};
  };
  struct Shared {
    std::atomic<bool> stop{false};
    std::array<Cell, kTargets> cells;
  };
  static int body(const std::vector<LoopTarget>& targets, Shared& shared);

  std::vector<LoopTarget> targets_;
  std::shared_ptr<Shared> shared_;
  Process process_;
};

}  // namespace mesh::test
