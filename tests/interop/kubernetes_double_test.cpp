// SPDX-License-Identifier: Apache-2.0
// Whether tests/doubles/kubernetes_double.py is an API server to others than us: kubectl, and the Python client.
#include "tests/support/kubernetes_double.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace mesh::test {
namespace {

using namespace std::chrono_literals;

class KubernetesDoubleTest : public testing::Test {
 protected:
  KubernetesDoubleTest() : folder_("/tmp/kubernetes-interop-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directories(folder_ + "/home");
    api_.emplace(KubernetesApi::Where{.folder = folder_});
  }
  ~KubernetesDoubleTest() override {
    api_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::vector<std::string> kubectl_command(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"kubectl", "--kubeconfig", api_->kubeconfig()});
    return arguments;
  }
  Output kubectl(std::vector<std::string> arguments) const {
    return run(kubectl_command(std::move(arguments)), {.environment = {"HOME=" + folder_ + "/home"}}, 60s);
  }
  std::string text_of(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder_ + "/" + name).rdbuf();
    return text.str();
  }

  std::string folder_;
  std::optional<KubernetesApi> api_;
};

TEST_F(KubernetesDoubleTest, kubectl_lists_watches_and_changes) {
  if (!have_program("kubectl")) GTEST_SKIP() << "SKIPPED: kubectl is not installed (scripts/setup --interop)";
  for (const char* const name : {"a", "b", "c"}) api_->add_service(name, 80, {{"labels", {{"mesh", "on"}}}});
  api_->set_endpoints("a", 8080, {"10.1.0.1"});
  EXPECT_EQ(kubectl({"get", "services", "-A", "-o", "name", "--chunk-size", "1"}).text,
            "service/a\nservice/b\nservice/c\n");
  const Output address = kubectl({"get", "endpointslices", "-n", "shop", "-l", "kubernetes.io/service-name=a", "-o",
                                  "jsonpath={.items[0].endpoints[0].addresses[0]}"});
  EXPECT_EQ(address.text, "10.1.0.1") << address.errors;

  const Process watch = Process::start(
      {.output = folder_ + "/watch", .environment = {"HOME=" + folder_ + "/home"}},
      kubectl_command({"get", "services", "-n", "shop", "-l", "mesh=on", "-w", "--output-watch-events", "-o", "name"}));
  ASSERT_TRUE(eventually(20s, [&] { return api_->control("state")["watches"] == 1; })) << text_of("watch");
  EXPECT_EQ(kubectl({"label", "service", "b", "-n", "shop", "mesh-"}).code, 0) << "no longer selected";
  EXPECT_EQ(kubectl({"delete", "service", "c", "-n", "shop", "--wait=false"}).code, 0);
  EXPECT_TRUE(eventually(20s, [&] {
    const std::string said = text_of("watch");
    return said.contains("DELETED service/b") ||
           said.find("service/c", said.find("service/c") + 1) != std::string::npos;
  })) << text_of("watch");
  EXPECT_EQ(kubectl({"get", "services", "-A", "-o", "name"}).text, "service/a\nservice/b\n");
  api_->control("token", {{"token", "other"}});
  EXPECT_NE(kubectl({"get", "services", "-A"}).code, 0) << "a revoked token";
}

TEST_F(KubernetesDoubleTest, the_python_client_lists_and_watches) {
  const std::string python = "/usr/bin/python3";  // others don't see the packages of the distribution
  if (run({python, "-c", "import kubernetes"}).code != 0) {
    GTEST_SKIP() << "SKIPPED: python3-kubernetes is not installed (scripts/setup --interop)";
  }
  for (const char* const name : {"a", "b", "c"}) api_->add_service(name, 80);
  api_->set_endpoints("a", 8080, {"10.1.0.1"});
  const std::string script = R"(
import sys
from kubernetes import client, config, watch
config.load_kube_config(sys.argv[1])
core, slices = client.CoreV1Api(), client.DiscoveryV1Api()
page = core.list_namespaced_service("shop", limit=2)
names = [s.metadata.name for s in page.items]
names += [s.metadata.name for s in core.list_namespaced_service("shop", limit=2, _continue=page.metadata._continue).items]
print(names, [e.addresses for e in slices.list_namespaced_endpoint_slice("shop").items[0].endpoints])
listed = core.list_namespaced_service("shop").metadata.resource_version
print("watching", flush=True)
for event in watch.Watch().stream(core.list_namespaced_service, "shop", resource_version=listed, timeout_seconds=30):
    print(event["type"], event["object"].metadata.name, flush=True)
    if event["type"] == "DELETED":
        break
try:
    for event in watch.Watch().stream(core.list_namespaced_service, "shop", resource_version="1", timeout_seconds=5):
        pass
except client.ApiException as gone:
    print("gone", gone.status)
)";
  // Version 1 was forgotten: its watch is told 410.
  api_->control("compact", nlohmann::json::object());
  Process process = Process::start({.output = folder_ + "/python"}, {python, "-c", script, api_->kubeconfig()});
  ASSERT_TRUE(eventually(30s, [&] { return api_->control("state")["watches"] == 1; })) << text_of("python");
  api_->add_service("d", 80);
  api_->remove_service("b");
  EXPECT_EQ(process.wait(30s), 0) << text_of("python");
  EXPECT_EQ(text_of("python"), "['a', 'b', 'c'] [['10.1.0.1']]\nwatching\nADDED d\nDELETED b\ngone 410\n");
}

}  // namespace
}  // namespace mesh::test
