// SPDX-License-Identifier: Apache-2.0
// The real `meshd relay` beside an agent of the lab.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/agent.hpp"

namespace mesh::test {

/// The script that plays them: its arguments are HOST PORT NAME CA_FILE, and it leaves with 0 if a server survived
/// them.
std::string hostile_clients();
/// The script that plays another node's relay; it says itself what its arguments are.
std::string mesh_peer();

/// A server that speaks TLS and says its name; its arguments are NAME CERTIFICATE KEY PORT, and perhaps CLIENT_CA.
std::string tls_backend();

class RelayProcess {
 public:
  /// `name`: of its cgroup and log, and its folder with "-state" behind; keeps several of one lab apart.
  RelayProcess(Lab& lab, const Host& host, const Agent& agent, std::string name = "relay");

  void start();
  /// Starts another beside it, which becomes the one this speaks of; the earlier one goes on until it has retired.
  void start_successor();
  void kill() { process_.kill(); }
  void signal(int number) const { process_.signal(number); }
  bool running() { return process_.running(); }
  [[nodiscard]] pid_t pid() const { return process_.pid(); }
  std::optional<int> wait(std::chrono::milliseconds timeout) { return process_.wait(timeout); }
  /// The exit code of the last but one; nothing: it still runs.
  std::optional<int> wait_for_earlier(std::chrono::milliseconds timeout) { return earlier_.wait(timeout); }
  [[nodiscard]] std::uint64_t resident_bytes() const;
  [[nodiscard]] std::string log() const;
  void use_program(std::string path) { program_ = std::move(path); }
  void use_loop(std::string loop) { loop_ = std::move(loop); }
  /// From the next start on, it may have only so many.
  void limit_descriptors(unsigned most) { descriptors_ = most; }
  /// Open files and sockets, now.
  [[nodiscard]] std::size_t descriptors() const;
  /// CPU time that it has used.
  [[nodiscard]] std::chrono::milliseconds cpu_time() const;

 private:
  Lab& lab_;
  const Host& host_;
  std::string name_;
  std::string program_;
  std::string socket_;
  std::string loop_ = "auto";
  unsigned descriptors_ = 0;  ///< 0: as many as the test may have.
  Process process_;
  Process earlier_;
};

}  // namespace mesh::test
