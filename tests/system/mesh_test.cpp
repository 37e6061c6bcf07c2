// SPDX-License-Identifier: Apache-2.0
// Mutual TLS between nodes as another node's relay sees it: identities from `meshctl ca`, allow-lists, rotation,
// revocation.
#include <fmt/format.h>

#include <fstream>

#include "tests/support/relay_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

class MeshTest : public RelayTest {
 protected:
  void SetUp() override {
    RelayTest::SetUp();
    if (!lab_ || IsSkipped()) return;
    local_ = std::make_unique<IdentifyServer>(*lab_, *node_);
    ca({"init", "--trust-domain", "lab.test"});
    for (const char* name : {"node", "shop", "cart"}) issue(name);
    trust(file("ca/bundle.crt"));
  }
  void TearDown() override {
    local_.reset();
    RelayTest::TearDown();
  }

  void ca(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {built_program("meshctl"), "ca"});
    arguments.insert(arguments.begin() + 3, {"--folder", file("ca")});
    const Output output = run(arguments);
    ASSERT_EQ(output.code, 0) << output.text << output.errors;
  }
  void issue(const std::string& name) const { ca({"issue", "--id", "spiffe://lab.test/" + name, "--out", file(name)}); }
  /// What the relay believes from now on.
  void trust(const std::string& bundle) const {
    std::filesystem::copy_file(bundle, file("trusted.crt"), std::filesystem::copy_options::overwrite_existing);
  }
  void start_mesh(const std::string& more = "", const std::string& bundle = "") {
    start_agent_and_relay(fmt::format(
        "services:\n"
        "  - {{name: web, address: \"240.64.0.10:80\", endpoints: [{{address: \"{}\"}}, {{address: \"{}\"}}, "
        "{{address: \"{}\"}}]}}\n"
        "relay:\n"
        "  mesh:\n"
        "    address: \"0.0.0.0:15008\"\n"
        "    identity: {{folder: {}}}\n"
        "    trust: [{{trust_domain: lab.test, bundle: {}{}}}]\n"
        "    services: [{{service: web, allow: [\"spiffe://lab.test/shop\"]{}}}]\n",
        node_->v4(7000), node_->v4(8080), hosts_[0]->v4(7000), file("node"), file("trusted.crt"), bundle, more));
  }
  std::vector<std::string> peer_arguments(const std::string& identity, std::vector<std::string> more = {},
                                          std::string destination = "") {
    if (destination.empty()) destination = node_->v4(7000);
    std::vector<std::string> argv{mesh_peer(), node_->v4(15008), file(identity), file("ca/bundle.crt"),
                                  "web:80",    destination,      "hello\n"};
    argv.insert(argv.end(), more.begin(), more.end());
    return argv;
  }
  std::string peer(const std::string& identity, std::vector<std::string> more = {}, const std::string& to = "") {
    return run(peer_arguments(identity, std::move(more), to), lab_->on(*clients_, "others")).text;
  }
  Json listener() { return agent_->json({"status"})["relay"]["listeners"][0]; }
  bool counted(const std::string& list, const std::string& name) {
    return eventually(seconds(5), [&] {
      const Json counts = listener()[list];
      return std::ranges::any_of(counts, [&](const Json& one) { return one["name"] == name; });
    });
  }

  std::unique_ptr<IdentifyServer> local_;
};

TEST_F(MeshTest, an_allowed_identity_reaches_the_workload_and_others_are_told_why_not) {
  start_mesh();
  EXPECT_EQ(peer("shop"), "spiffe://lab.test/node 0\nnode\n") << relay_->log();
  EXPECT_EQ(peer("cart"), "spiffe://lab.test/node 1\n");
  EXPECT_EQ(peer("shop", {}, hosts_[0]->v4(7000)), "spiffe://lab.test/node 3\n") << "an endpoint of another node";
  EXPECT_EQ(peer("shop", {}, node_->v4(22)), "spiffe://lab.test/node 3\n") << "no endpoint";
  EXPECT_TRUE(peer("shop", {"--alpn", "meshd/2"}).starts_with("refused: "));
  for (const char* reason : {"mesh: not allowed", "mesh: no endpoint of the service here", "tls: alpn"}) {
    EXPECT_TRUE(counted("failed", reason)) << reason << listener();
  }
  EXPECT_NE(relay_->log().find("spiffe://lab.test/cart"), std::string::npos) << relay_->log();
  EXPECT_NE(agent_->ctl({"certs"}).text.find("spiffe://lab.test/node"), std::string::npos)
      << agent_->ctl({"certs"}).text;
}

TEST_F(MeshTest, strangers_are_refused_by_name) {
  start_mesh();
  const auto issuer = [&](const std::string& name) {
    std::ifstream certificate(file(name + "/ca.crt")), key(file(name + "/ca.key"));
    return CertificatePem{{std::istreambuf_iterator<char>(certificate), {}}, {std::istreambuf_iterator<char>(key), {}}};
  };
  const auto write = [&](const std::string& name, const CertificatePem& pem) {
    std::filesystem::create_directory(file(name));
    lab_->write_file(name + "/tls.crt", pem.certificate);
    lab_->write_file(name + "/tls.key", pem.key);
  };
  const auto now = std::chrono::system_clock::now();
  const auto other = make_authority("other", now + std::chrono::hours(1));
  write("expired", make_svid("spiffe://lab.test/shop", now - std::chrono::hours(1), issuer("ca")));
  write("forged", make_svid("spiffe://lab.test/shop", now + std::chrono::hours(1), other));
  write("elsewhere", make_svid("spiffe://other.test/shop", now + std::chrono::hours(1), other));
  write("server", make_certificate_for("DNS:shop.test", now + std::chrono::hours(1), &other));
  for (const auto& [identity, reason] :
       std::map<std::string, std::string>{{"expired", "certificate: certificate expired"},
                                          {"forged", "certificate: unknown issuer"},
                                          {"elsewhere", "certificate: unknown trust domain"},
                                          {"server", "certificate: certificate has no SPIFFE ID"}}) {
    EXPECT_TRUE(peer(identity).starts_with("refused: ")) << identity;
    EXPECT_TRUE(counted("failed", reason)) << reason << listener();
  }
}

TEST_F(MeshTest, in_a_dry_run_others_are_let_in_and_counted) {
  start_mesh(", dry_run: true");
  EXPECT_EQ(peer("cart"), "spiffe://lab.test/node 0\nnode\n");
  EXPECT_EQ(peer("cart"), "spiffe://lab.test/node 0\nnode\n");
  ASSERT_TRUE(counted("dry_run", "web:80")) << listener();
  EXPECT_TRUE(eventually(seconds(5), [&] { return listener()["dry_run"][0]["count"] == 2; })) << listener();
  const std::string log = relay_->log();
  const auto first = log.find("dry run");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(log.find("dry run", first + 1), std::string::npos) << "said once";
}

TEST_F(MeshTest, a_rotation_fails_no_connection_and_a_revocation_closes_those_that_are_open) {
  start_mesh();
  Process holder = Process::start(lab_->on(*clients_, "others", "holder.log"),
                                  peer_arguments("shop", {"--hold", "60"}, node_->v4(8080)));
  const auto held = [&] {
    std::ifstream log(file("holder.log"));
    return std::string(std::istreambuf_iterator<char>(log), {}).find("held") != std::string::npos;
  };
  ASSERT_TRUE(eventually(seconds(10), held));
  int tried = 0;
  const auto good_for = [&](seconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      ++tried;
      ASSERT_EQ(peer("shop"), "spiffe://lab.test/node 0\nnode\n") << "connection " << tried << relay_->log();
    }
  };
  const std::string serial = listener()["certificates"][0]["serial"];
  ca({"rotate"});
  trust(file("ca/bundle.crt"));
  good_for(seconds(4));
  issue("node");
  issue("shop");
  good_for(seconds(1));
  ASSERT_TRUE(eventually(seconds(10), [&] { return listener()["certificates"][0]["serial"] != serial; }));
  good_for(seconds(1));
  EXPECT_TRUE(holder.running()) << "of the old authority, which is still believed";
  ca({"rotate", "--finish"});
  trust(file("ca/bundle.crt"));
  EXPECT_TRUE(holder.wait(seconds(10))) << "its authority is not believed any more";
  EXPECT_TRUE(counted("ended", "mesh: unknown issuer")) << listener();
  good_for(seconds(1));
}

}  // namespace
}  // namespace mesh::test
