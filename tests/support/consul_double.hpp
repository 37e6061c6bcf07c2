// SPDX-License-Identifier: Apache-2.0
// A Consul agent for tests: tests/doubles/consul_double.py as a child process, or, where MESH_E2E_CONSUL names the
// address of a real one (http://...), that one: tests register under names of their own and take them back.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/certificate.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

class ConsulServer {
 public:
  using Json = nlohmann::json;
  struct Where {
    std::string folder;                 ///< For files; must exist.
    std::string address = "127.0.0.1";  ///< Of the double.
    SpawnOptions spawn{};               ///< Where the double runs.
  };
  explicit ConsulServer(Where where);
  ~ConsulServer();

  /// Whether it is a real one: it can't be restarted, and has no faults on demand.
  [[nodiscard]] bool real() const { return real_; }
  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] std::string socket() const { return where_.folder + "/consul.sock"; }
  /// Of a service for this test: "NAME-PID".
  [[nodiscard]] std::string name(const std::string& name) const;

  /// With a TTL check in that state; `more` goes into the registration. `service` as name() says it.
  void add(const std::string& service, const std::string& id, const std::string& address, int port,
           const std::string& status = "passing", const Json& more = Json::object());
  void remove(const std::string& id);
  void set_status(const std::string& id, const std::string& status);  ///< passing, warning, critical
  void maintain(const std::string& id, bool on);                      ///< "" is the node.

  // Of the double.
  void start(const std::vector<std::string>& options = {});
  /// Options for start(): that instance is there before it listens.
  static std::vector<std::string> with(const std::string& service, const std::string& id, const std::string& address,
                                       int port);
  void stop() { process_.reset(); }
  Process& process() { return *process_; }
  Json control(const std::string& method, const std::string& path, const Json& body = nullptr);
  void fault(Json fault) { control("PUT", "/fault", fault); }
  void end_faults() { control("DELETE", "/fault"); }
  /// From the next start on it speaks TLS, with a certificate that expires at `end`.
  void use_tls(std::chrono::system_clock::time_point end);
  [[nodiscard]] std::string ca_file() const { return where_.folder + "/ca.pem"; }

 private:
  void write(const std::string& path, const Json& body = nullptr);

  Where where_;
  bool real_ = false;
  bool tls_ = false;
  int port_ = 0;
  std::string url_;
  std::vector<std::string> ids_;  // registered with the real one
  std::optional<CertificatePem> authority_;
  std::optional<Process> process_;
};

}  // namespace mesh::test
