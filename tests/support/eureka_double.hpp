// SPDX-License-Identifier: Apache-2.0
// A Eureka server for tests: tests/doubles/eureka_double.py as a child process, or, where MESH_E2E_EUREKA names the
// address of a real one (http://host:8761/eureka), that one: tests register under names of their own and take them
// back.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/certificate.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

class EurekaServer {
 public:
  using Json = nlohmann::json;
  struct Where {
    std::string folder;                 ///< For files; must exist.
    std::string name = "eureka";        ///< Keeps the files of several apart.
    std::string address = "127.0.0.1";  ///< Of the double.
    SpawnOptions spawn{};               ///< Where the double runs.
  };
  explicit EurekaServer(Where where);
  ~EurekaServer();
  EurekaServer(const EurekaServer&) = delete;
  EurekaServer& operator=(const EurekaServer&) = delete;

  /// Whether it is a real one: it can't be restarted, has no faults on demand, and says changes late, from its caches.
  [[nodiscard]] bool real() const { return real_; }
  [[nodiscard]] std::chrono::seconds patience() const { return std::chrono::seconds(real_ ? 180 : 20); }
  [[nodiscard]] const std::string& url() const { return url_; }
  /// Of an application for this test, in upper case: "NAME-PID".
  [[nodiscard]] static std::string app(const std::string& name);

  /// `more` goes into the registration. `app` as app() says it.
  void add(const std::string& app, const std::string& id, const std::string& address, int port,
           const Json& more = Json::object());
  void remove(const std::string& app, const std::string& id);
  void order(const std::string& app, const std::string& id, const std::string& status);  ///< OUT_OF_SERVICE, UP, ...

  // Of the double.
  void start(const std::vector<std::string>& options = {});
  /// Options for start(): that instance is there before it listens.
  static std::vector<std::string> with(const std::string& app, const std::string& id, const std::string& address,
                                       int port);
  void stop() { process_.reset(); }
  Process& process() { return *process_; }
  Json control(const std::string& method, const std::string& path, const Json& body = nullptr);
  void fault(const Json& fault) { control("PUT", "/fault", fault); }
  void end_faults() { control("DELETE", "/fault"); }
  /// From the next start on it speaks TLS, with a certificate that expires at `end`.
  void use_tls(std::chrono::system_clock::time_point end);
  [[nodiscard]] std::string ca_file() const { return file("ca.pem"); }

 private:
  [[nodiscard]] std::string file(const std::string& what) const {
    return where_.folder + "/" + where_.name + "-" + what;
  }
  void write(const std::string& method, const std::string& path, const Json& body = nullptr);

  Where where_;
  bool real_ = false;
  bool tls_ = false;
  int port_ = 0;
  std::string url_;
  std::vector<std::pair<std::string, std::string>> registered_;  // with the real one
  std::optional<CertificatePem> authority_;
  std::optional<Process> process_;
};

}  // namespace mesh::test
