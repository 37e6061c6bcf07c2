// SPDX-License-Identifier: Apache-2.0
// A real ZooKeeper for tests, and clients of it that others wrote: kazoo, and Curator (scripts/setup --interop).
#pragma once

#include <string>
#include <vector>

#include "tests/support/process.hpp"

namespace mesh::test {

class ZookeeperServer {
 public:
  struct Where {
    std::string folder;                 ///< For files; must exist.
    std::string address = "127.0.0.1";  ///< To listen on.
    SpawnOptions spawn{};               ///< Where server and clients run.
    int tick_ms = 500;                  ///< Sessions last 2 to 20 of these.
  };
  /// Why there can be none here; empty: there can.
  static std::string unavailable();
  /// Why Curator can't be run here.
  static std::string curator_unavailable();

  explicit ZookeeperServer(Where where);  ///< Starts it.

  [[nodiscard]] std::string address() const { return where_.address + ":" + std::to_string(port_); }
  void start();
  void stop() { process_.kill(); }
  Process& process() { return process_; }
  /// It forgets everything; to be started again.
  void wipe();

  /// Runs a program of kazoo with a client `zk`, and `acl` for make_digest_acl; what it prints.
  std::string kazoo(const std::string& program) const;
  /// Sets nodes that stay, with their parents: set("/a/b", "data").
  void set(const std::string& path, const std::string& data) const;
  void remove(const std::string& path) const;
  /// A client that holds an ephemeral node until it ends.
  [[nodiscard]] Process hold(const std::string& path, const std::string& data, double session_seconds) const;
  /// A service that registers itself with Curator, until it ends.
  [[nodiscard]] Process curator(const std::vector<std::string>& arguments) const;

 private:
  Where where_;
  int port_ = 0;
  Process process_;
};

}  // namespace mesh::test
