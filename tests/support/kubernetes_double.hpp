// SPDX-License-Identifier: Apache-2.0
// A Kubernetes API server for tests: tests/doubles/kubernetes_double.py as a child process, or, where
// MESH_E2E_KUBERNETES names a kubeconfig, the real one behind it, in a namespace that goes with the test.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "discovery/kubernetes_access.hpp"
#include "http/fetch.hpp"
#include "tests/support/certificate.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

class KubernetesApi {
 public:
  using Json = nlohmann::json;
  struct Where {
    std::string folder;                 ///< For files; must exist.
    std::string address = "127.0.0.1";  ///< Of the double.
    SpawnOptions spawn;                 ///< Where the double runs.
  };
  explicit KubernetesApi(Where where);
  ~KubernetesApi();

  /// Whether it is a real one: it can't be restarted, and has no faults on demand.
  [[nodiscard]] bool real() const { return real_; }
  [[nodiscard]] const std::string& kubeconfig() const { return kubeconfig_; }  ///< With tokenFile token_file().
  [[nodiscard]] const std::string& space() const { return space_; }            ///< The namespace for tests.
  [[nodiscard]] std::string token_file() const { return where_.folder + "/token"; }

  /// Throws what the server says if it is no success.
  Json call(const std::string& method, const std::string& path, const Json& body = nullptr);

  /// Creates a service with one TCP port "http"; its address.
  std::string add_service(const std::string& name, int port, const Json& more_meta = Json::object(),
                          const Json& more_spec = Json::object());
  void remove_service(const std::string& name);
  /// Creates or replaces the slice NAME-slice of a service. An endpoint is "IP", or an object.
  void set_endpoints(const std::string& name, int port, const std::vector<Json>& endpoints);

  // Of the double.
  void start(const std::vector<std::string>& options = {});
  void stop() { process_.reset(); }
  Process& process() { return *process_; }
  Json control(const std::string& what, const Json& body = nullptr);  ///< POST with a body, GET without.
  void set_faults(const Json& faults) { control("faults", faults); }
  /// From the next start on; the certificate expires at `end`.
  void make_certificate(std::chrono::system_clock::time_point end);
  void write_token(const std::string& token);

 private:
  std::string services() const { return "/api/v1/namespaces/" + space_ + "/services"; }
  std::string slices() const { return "/apis/discovery.k8s.io/v1/namespaces/" + space_ + "/endpointslices"; }
  Json exchange(http::Fetcher& fetcher, const std::string& method, const std::string& url, const Json& body);

  Where where_;
  bool real_ = false;
  std::string kubeconfig_;
  std::string space_ = "shop";
  std::string server_;
  CertificatePem authority_;
  int port_ = 0;
  std::optional<Process> process_;
};

}  // namespace mesh::test
