// SPDX-License-Identifier: Apache-2.0
// Restarts, upgrades and kills relay and agent while clients connect over TLS in a tight loop, each connection whole:
// connect, handshake, the backend's name, a proper end. What a user of the relay notices of it: nothing, but for
// connections that a killed relay had.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace mesh::test {

/// Connects over TLS in a tight loop and counts what failed.
class TlsLoop {
 public:
  struct Counts {
    std::uint64_t attempts = 0;
    std::uint64_t failures = 0;
    double longest_ms = 0;  ///< From connect() to the end.
    std::string first_failure;
  };
  /// `address`: "10.77.0.1:8443"; its certificate is not verified.
  TlsLoop(const SpawnOptions& where, const std::string& address, const std::string& server_name);

  [[nodiscard]] std::uint64_t attempts() const;
  [[nodiscard]] std::uint64_t failures() const;
  /// Waits for so many more whole connections; false if that takes over ten seconds.
  [[nodiscard]] bool await_more(std::uint64_t count) const;
  /// The longest since the last call.
  double take_longest_ms();
  Counts finish();

 private:
  struct Shared;
  static int body(const std::string& address, const std::string& server_name, Shared& shared);
  std::shared_ptr<Shared> shared_;
  Process process_;
};

struct TlsTrialOptions {
  int rounds = 10;      ///< Of each kind.
  std::string program;  ///< Another build of meshd, which takes turns with this one; empty: none.
  std::function<void(const std::string& line)> progress;
};

struct TlsTrialReport {
  struct Row {
    std::string what;  ///< "a successor takes over the relay"
    int times = 0;
    std::uint64_t attempts = 0;
    std::uint64_t failures = 0;
    std::uint64_t allowed = 0;  ///< Failures that a kill of the relay may cause: the connections it had.
    double longest_ms = 0;      ///< Of one connection.
  };
  std::vector<Row> rows;
  std::vector<std::string> faults;
};

TlsTrialReport run_tls_trial(const TlsTrialOptions& options);

}  // namespace mesh::test
