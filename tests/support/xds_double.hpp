// SPDX-License-Identifier: Apache-2.0
// An xDS control plane for tests: tests/doubles/xds_double.py as a child process.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/certificate.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

/// Why the double, or a gRPC client in Python, can't run here; empty if it can.
std::string python_grpc_unavailable();

class XdsServer {
 public:
  using Json = nlohmann::json;
  struct Where {
    std::string folder;                 ///< For files; must exist.
    std::string address = "127.0.0.1";  ///< Of the double; "unix" is a socket in the folder.
    std::uint16_t port = 0;             ///< 0: a free one.
    SpawnOptions spawn{};               ///< Where the double runs.
  };
  explicit XdsServer(Where where);

  /// With that there before it listens: {"clusters": ..., "endpoints": ...} as set_clusters() and set_endpoints() say
  /// it.
  void start(const Json& state = nullptr);
  void stop() { process_.reset(); }
  Process& process() { return *process_; }
  /// "grpc://127.0.0.1:18000", as `server` of the settings has it.
  [[nodiscard]] std::string url() const;

  Json control(const std::string& method, const std::string& path, const Json& body = nullptr);
  void set_clusters(const Json& clusters) { control("PUT", "/clusters", clusters); }
  /// Localities by name of a cluster.
  void set_endpoints(const Json& endpoints) { control("PUT", "/endpoints", endpoints); }
  void fault(const std::string& kind) { control("PUT", "/fault", {{"kind", kind}}); }
  void end_faults() { control("DELETE", "/fault"); }
  Json stats() { return control("GET", "/stats"); }

  // From the next start on.
  void use_tls(std::chrono::system_clock::time_point end, bool ask_client = false);
  void want_token(std::string token) { token_ = std::move(token); }
  void begin_at_version(int version) { first_version_ = version; }
  [[nodiscard]] std::string file(const std::string& what) const { return where_.folder + "/xds-" + what; }

 private:
  Where where_;
  bool tls_ = false;
  bool ask_client_ = false;
  std::optional<std::string> token_;
  int first_version_ = 1;
  std::optional<CertificatePem> authority_;
  std::optional<Process> process_;
};

}  // namespace mesh::test
