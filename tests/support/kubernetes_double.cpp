// SPDX-License-Identifier: Apache-2.0
#include "tests/support/kubernetes_double.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "base/fd.hpp"
#include "tests/support/peer.hpp"

namespace mesh::test {

using namespace std::chrono_literals;
using Json = KubernetesApi::Json;

namespace {

void write(const std::string& path, const std::string& text) {
  if (const auto written = base::write_file_atomically(path, text); !written) {
    throw std::runtime_error(written.error().to_string());
  }
}

/// This thread in another network namespace, for as long as it stands.
class Visit {
 public:
  explicit Visit(int netns) : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (netns >= 0 && ::setns(netns, CLONE_NEWNET) != 0) throw std::runtime_error("setns fails");
  }
  ~Visit() { ::setns(home_.get(), CLONE_NEWNET); }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  base::Fd home_;
};

}  // namespace

KubernetesApi::KubernetesApi(Where where) : where_(std::move(where)) {
  if (const char* const named = std::getenv("MESH_E2E_KUBERNETES")) {
    real_ = true;
    kubeconfig_ = named;
    space_ = "meshd-e2e-" + std::to_string(::getpid());
    call("POST", "/api/v1/namespaces", {{"metadata", {{"name", space_}}}});
    return;
  }
  authority_ = make_authority("kubernetes double", std::chrono::system_clock::now() + 24h);
  port_ = free_port();
  server_ = "https://" + where_.address + ":" + std::to_string(port_);
  kubeconfig_ = where_.folder + "/kubeconfig";
  write(where_.folder + "/ca.pem", authority_.certificate);
  write(kubeconfig_,
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        "clusters: [{name: test, cluster: {server: \"" +
            server_ +
            "\", certificate-authority: ca.pem}}]\n"
            "users: [{name: test, user: {tokenFile: " +
            token_file() + "}}]\ncontexts: [{name: test, context: {cluster: test, user: test}}]\n");
  make_certificate(std::chrono::system_clock::now() + 24h);
  write_token("first");
  start();
}

KubernetesApi::~KubernetesApi() {
  if (!real_) return;
  try {
    call("DELETE", "/api/v1/namespaces/" + space_);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "namespace %s stays: %s\n", space_.c_str(), error.what());
  }
}

void KubernetesApi::make_certificate(std::chrono::system_clock::time_point end) {
  const CertificatePem pem = make_certificate_for("IP:" + where_.address, end, &authority_);
  write(where_.folder + "/cert.pem", pem.certificate);
  write(where_.folder + "/key.pem", pem.key);
}

void KubernetesApi::write_token(const std::string& token) { write(token_file(), token); }

void KubernetesApi::start(const std::vector<std::string>& options) {
  process_.reset();
  const auto token = base::read_file(token_file(), 1000);
  std::vector<std::string> arguments = {
      "python3",       std::string(MESH_SOURCE_DIR) + "/tests/doubles/kubernetes_double.py",
      "--address",     where_.address,
      "--port",        std::to_string(port_),
      "--certificate", where_.folder + "/cert.pem",
      "--key",         where_.folder + "/key.pem",
      "--token",       token->substr(0, token->find('\n'))};
  arguments.insert(arguments.end(), options.begin(), options.end());
  SpawnOptions spawn = where_.spawn;
  spawn.output = where_.folder + "/double.log";
  process_ = Process::start(spawn, arguments);
  const Visit visit(where_.spawn.netns);
  http::Fetcher fetcher({.tls = {.verify = false}});
  const bool up = eventually(
      30s, [&] { return fetcher.fetch({.url = server_ + "/_control/state", .deadline = 1s}, -1).has_value(); });
  if (!up) throw std::runtime_error("the Kubernetes double does not answer; see " + spawn.output);
}

Json KubernetesApi::exchange(http::Fetcher& fetcher, const std::string& method, const std::string& url,
                             const Json& body) {
  const Visit visit(where_.spawn.netns);
  const auto answer = fetcher.fetch({.method = method,
                                     .url = url,
                                     .headers = {{"Content-Type", "application/json"}},
                                     .body = body.is_null() ? "" : body.dump(),
                                     .deadline = 60s},
                                    -1);
  if (!answer) throw std::runtime_error(answer.error().to_string());
  if (!answer->ok()) throw std::runtime_error(http::status_error(*answer, method + " " + url).to_string());
  return Json::parse(answer->body);
}

Json KubernetesApi::call(const std::string& method, const std::string& path, const Json& body) {
  const auto access = discovery::kubernetes::find_access({.kubeconfig = kubeconfig_}, {});
  if (!access) throw std::runtime_error(access.error().to_string());
  http::Fetcher fetcher(access->fetch);
  return exchange(fetcher, method, access->server + path, body);
}

Json KubernetesApi::control(const std::string& what, const Json& body) {
  http::Fetcher fetcher({.tls = {.verify = false}});
  return exchange(fetcher, body.is_null() ? "GET" : "POST", server_ + "/_control/" + what, body);
}

std::string KubernetesApi::add_service(const std::string& name, int port, const Json& more_meta,
                                       const Json& more_spec) {
  Json service = {{"metadata", {{"name", name}, {"namespace", space_}}},
                  {"spec", {{"ports", {{{"name", "http"}, {"port", port}, {"protocol", "TCP"}}}}}}};
  service["metadata"].update(more_meta);
  service["spec"].update(more_spec);
  const Json made = call("POST", services(), service);
  return made["spec"].value("clusterIP", "");
}

void KubernetesApi::remove_service(const std::string& name) { call("DELETE", services() + "/" + name); }

void KubernetesApi::set_endpoints(const std::string& name, int port, const std::vector<Json>& endpoints) {
  Json list = Json::array();
  for (const Json& one : endpoints) {
    list.push_back(one.is_string() ? Json{{"addresses", {one}}, {"conditions", {{"ready", true}}}} : one);
  }
  const Json slice = {
      {"metadata",
       {{"name", name + "-slice"},
        {"namespace", space_},
        {"labels", {{"kubernetes.io/service-name", name}, {"endpointslice.kubernetes.io/managed-by", "meshd-test"}}}}},
      {"addressType", "IPv4"},
      {"ports", {{{"name", "http"}, {"port", port}, {"protocol", "TCP"}}}},
      {"endpoints", list}};
  try {
    call("PUT", slices() + "/" + name + "-slice", slice);
  } catch (const std::runtime_error&) {  // there is none yet
    call("POST", slices(), slice);
  }
}

}  // namespace mesh::test
