// SPDX-License-Identifier: Apache-2.0
// The real agent with a Kubernetes API server as its source: what applications experience when they connect to a
// ClusterIP, while the cluster changes and the API server fails in every way it can.
#include <fstream>

#include "tests/support/agent_test.hpp"
#include "tests/support/kubernetes_double.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

class KubernetesTest : public AgentTest {
 protected:
  void SetUp() override {
    if (std::getenv("MESH_E2E_KUBERNETES") != nullptr) {
      GTEST_SKIP() << "SKIPPED: a real API server can't be reached from the lab; KubernetesSourceTest runs against it";
    }
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(3);
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(lab_->folder() / "kubernetes");
    api_.emplace(KubernetesApi::Where{.folder = lab_->folder() / "kubernetes", .spawn = lab_->on(*node_)});
    address_ = api_->add_service("orders", 80) + ":80";
    set({0, 1});
    start_agent({.body = "sources:\n  - type: kubernetes\n    kubernetes: {kubeconfig: " + api_->kubeconfig() +
                         ", namespaces: [shop], check_interval: 1s}\n"});
  }
  void TearDown() override {
    AgentTest::TearDown();
    api_.reset();
  }

  /// The endpoints of `orders` are these servers.
  void set(const std::vector<std::size_t>& servers) {
    std::vector<Json> endpoints;
    for (const std::size_t one : servers) endpoints.emplace_back(hosts_[one]->v4());
    api_->set_endpoints("orders", 7000, endpoints);
  }
  /// Who answers, of many calls: "web1 web2".
  std::string answering() {
    std::string names;
    for (const auto& [name, count] : tally(call(app(), Via::kTcp, address_, 40))) {
      names += (names.empty() ? "" : " ") + name;
    }
    return names;
  }
  void expect_answering(const std::string& wanted) {
    std::string last;
    EXPECT_TRUE(eventually(40s, [&] { return (last = answering()) == wanted; })) << last << ", wanted " << wanted;
  }
  Json source() { return agent_->json({"sources"})["items"].back(); }
  void expect_state(const std::string& state, const std::string& error = "") {
    Json last;
    EXPECT_TRUE(eventually(40s, [&] {
      last = source();
      return last["state"] == state && last.value("error", "").contains(error);
    })) << last;
  }

  std::optional<KubernetesApi> api_;
  std::string address_;
};

TEST_F(KubernetesTest, a_cluster_ip_leads_to_the_endpoints_of_the_moment) {
  expect_answering("web1 web2");
  set({2});
  expect_answering("web3");
  api_->set_endpoints("orders", 7000,
                      {{{"addresses", {hosts_[0]->v4()}}, {"conditions", {{"ready", false}}}},
                       {{"addresses", {hosts_[1]->v4()}}, {"conditions", {{"ready", true}}}}});
  expect_answering("web2");
  api_->set_endpoints("orders", 7000,
                      {{{"addresses", {hosts_[0]->v4()}},
                        {"conditions", {{"ready", false}, {"serving", true}, {"terminating", true}}}}});
  expect_answering("web1");
  set({});
  expect_answering("errno ECONNREFUSED");
  const std::string late = api_->add_service("late", 81) + ":81";
  api_->set_endpoints("late", 7000, {hosts_[1]->v4()});
  EXPECT_TRUE(eventually(20s, [&] { return call(app(), Via::kTcp, late, 1)[0].backend == "web2"; }));
  api_->remove_service("late");
  EXPECT_TRUE(eventually(20s, [&] { return call(app(), Via::kTcp, late, 1)[0].errnum == ENETUNREACH; }));
}

TEST_F(KubernetesTest, whatever_the_api_server_does_known_endpoints_are_reached_and_status_tells) {
  expect_answering("web1 web2");
  const Json before = api_->control("dump");
  set({1, 2});
  expect_answering("web2 web3");
  const ConnectLoop loop(app(), {{Via::kTcp, address_}});

  api_->process().signal(SIGSTOP);
  expect_state("stale");
  expect_answering("web2 web3");
  api_->process().signal(SIGCONT);
  expect_state("synced");

  api_->control("token", {{"token", "second"}});
  expect_state("stale", "401");
  expect_answering("web2 web3");
  api_->write_token("second");
  expect_state("synced");

  api_->stop();
  expect_state("stale");
  expect_answering("web2 web3");

  std::ofstream(lab_->folder() / "kubernetes" / "dump") << before.dump();
  const std::vector<std::string> restore = {"--restore", lab_->folder() / "kubernetes" / "dump"};
  api_->make_certificate(std::chrono::system_clock::now() - 1h);
  api_->start(restore);
  expect_state("stale", "expired");
  expect_answering("web2 web3");
  api_->make_certificate(std::chrono::system_clock::now() + 1h);
  api_->start(restore);
  expect_state("synced");
  expect_answering("web1 web2");  // an older state is a state

  EXPECT_GT(loop.attempts(), 0u);
  EXPECT_EQ(loop.failures(), 0u);
}

TEST_F(KubernetesTest, an_agent_that_starts_without_the_api_server_knows_what_it_knew) {
  expect_answering("web1 web2");
  ASSERT_TRUE(eventually(10s, [&] { return run({"grep", "-rq", "orders.shop", agent_->state_folder()}).code == 0; }))
      << "not saved";
  agent_->terminate();
  api_->stop();
  agent_->start();
  ASSERT_TRUE(eventually(10s, [&] { return agent_->ctl({"sources"}).code == 0; }));
  expect_state("stale");
  expect_answering("web1 web2");
}

}  // namespace
}  // namespace mesh::test
