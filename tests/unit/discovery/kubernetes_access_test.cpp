// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_access.hpp"

#include <gtest/gtest.h>

#include <map>

namespace mesh::discovery::kubernetes {
namespace {

using base::ErrorKind;

constexpr std::string_view kKubeconfig = R"(
apiVersion: v1
kind: Config
current-context: prod
clusters:
- name: prod
  cluster:
    server: https://10.0.0.1:6443/
    certificate-authority: ca.pem
    tls-server-name: kubernetes
    proxy-url: http://proxy:3128
- name: data
  cluster: {server: "https://[fd00::1]:6443", certificate-authority-data: Q0E=, insecure-skip-tls-verify: true}
users:
- name: by-file
  user: {client-certificate: /etc/c.pem, client-key: k.pem, tokenFile: token, token: ignored}
- name: by-data
  user: {client-certificate-data: Q0VSVA==, client-key-data: "S0VZ", token: secret}
- name: by-program
  user: {exec: {command: aws}}
- name: by-password
  user: {username: joe, password: x}
- name: damaged
  user: {client-certificate-data: "%%%"}
contexts:
- {name: prod, context: {cluster: prod, user: by-file, namespace: shop}}
- {name: data, context: {cluster: data, user: by-data}}
- {name: nobody, context: {cluster: data}}
- {name: exec, context: {cluster: data, user: by-program}}
- {name: password, context: {cluster: data, user: by-password}}
- {name: damaged, context: {cluster: data, user: damaged}}
- {name: lost, context: {cluster: none}}
)";

base::Result<Access> read(std::string_view context) {
  return read_kubeconfig(kKubeconfig, "/etc/kube/config", context);
}

TEST(KubernetesAccess, the_current_context_with_files) {
  const auto access = read("");
  ASSERT_TRUE(access) << access.error().to_string();
  EXPECT_EQ(access->server, "https://10.0.0.1:6443");
  EXPECT_EQ(access->fetch.tls.ca.file, "/etc/kube/ca.pem") << "relative to the kubeconfig";
  EXPECT_EQ(access->fetch.tls.server_name, "kubernetes");
  EXPECT_EQ(access->fetch.tls.certificate.file, "/etc/c.pem");
  EXPECT_EQ(access->fetch.tls.key.file, "/etc/kube/k.pem");
  EXPECT_EQ(access->fetch.proxy, "http://proxy:3128");
  EXPECT_TRUE(access->fetch.tls.verify);
  ASSERT_EQ(access->fetch.credentials.size(), 1u);
  EXPECT_EQ(access->fetch.credentials[0].file, "/etc/kube/token") << "tokenFile comes before token";
}

TEST(KubernetesAccess, another_context_with_data) {
  const auto access = read("data");
  ASSERT_TRUE(access) << access.error().to_string();
  EXPECT_EQ(access->server, "https://[fd00::1]:6443");
  EXPECT_EQ(access->fetch.tls.ca.text, "CA");
  EXPECT_EQ(access->fetch.tls.certificate.text, "CERT");
  EXPECT_EQ(access->fetch.tls.key.text, "KEY");
  EXPECT_EQ(access->fetch.credentials[0].value, "secret");
  EXPECT_FALSE(access->fetch.tls.verify);
  EXPECT_TRUE(read("nobody")->fetch.credentials.empty());
}

TEST(KubernetesAccess, what_can_not_be_used_is_refused_with_the_reason) {
  EXPECT_EQ(read("exec").error().kind, ErrorKind::kUnsupported);
  EXPECT_TRUE(read("exec").error().message.contains("'exec'"));
  EXPECT_EQ(read("password").error().kind, ErrorKind::kUnsupported);
  for (const char* const context : {"damaged", "lost", "unknown"}) {
    EXPECT_EQ(read(context).error().kind, ErrorKind::kInvalid) << context;
  }
  for (const char* const text : {"", "[]", "a: [", "{contexts: 3, current-context: x}", "{current-context: [x]}"}) {
    EXPECT_FALSE(read_kubeconfig(text, "/f", "")) << text;
  }
}

Surroundings pod(std::map<std::string, std::string> environment) {
  return {.environment =
              [environment](const char* name) {
                const auto found = environment.find(name);
                return found == environment.end() ? std::nullopt : std::optional(found->second);
              },
          .service_account = "/sa"};
}

TEST(KubernetesAccess, in_a_pod) {
  const auto access =
      find_access({}, pod({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"}}));
  ASSERT_TRUE(access) << access.error().to_string();
  EXPECT_EQ(access->server, "https://10.96.0.1:443");
  EXPECT_EQ(access->fetch.credentials[0].file, "/sa/token");
  EXPECT_EQ(access->fetch.tls.ca.file, "/sa/ca.crt");
  const auto v6 = find_access({}, pod({{"KUBERNETES_SERVICE_HOST", "fd00::1"}, {"KUBERNETES_SERVICE_PORT", "443"}}));
  EXPECT_EQ(v6->server, "https://[fd00::1]:443");
}

TEST(KubernetesAccess, the_settings_name_the_server_and_its_name) {
  const auto access = find_access({.api_server = "https://master:6443/", .tls_server_name = "kubernetes"}, pod({}));
  ASSERT_TRUE(access) << access.error().to_string();
  EXPECT_EQ(access->server, "https://master:6443");
  EXPECT_EQ(access->fetch.tls.server_name, "kubernetes");
  EXPECT_EQ(access->fetch.credentials[0].file, "/sa/token");
  EXPECT_EQ(find_access({}, pod({})).error().kind, ErrorKind::kInvalid) << "no pod";
  EXPECT_EQ(find_access({.kubeconfig = "/nonexistent/kubeconfig"}, pod({})).error().kind, ErrorKind::kNotFound);
}

TEST(KubernetesAccess, base64) {
  EXPECT_EQ(decode_base64("TWFu"), "Man");
  EXPECT_EQ(decode_base64("TW Fu\nTWE="), "ManMa");
  EXPECT_EQ(decode_base64("TQ=="), "M");
  EXPECT_EQ(decode_base64(""), "");
  EXPECT_EQ(decode_base64("/+8="), "\xff\xef");
  for (const char* const text : {"T", "TWF", "TQ=", "TQ===", "T=Q=", "T-==", "====", "TQ==TQ=="}) {
    EXPECT_FALSE(decode_base64(text)) << text;
  }
}

}  // namespace
}  // namespace mesh::discovery::kubernetes
