// SPDX-License-Identifier: Apache-2.0
// Certificates from other people's issuers: pebble, the test issuer of Let's Encrypt, which refuses half of all nonces
// here, and the issuer in Caddy.
#include <fmt/format.h>
#include <sys/stat.h>

#include "tests/support/relay_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << "SKIPPED: " << (name) << " is not installed (scripts/setup --interop)"

class AcmeTest : public RelayTest {
 protected:
  struct Spec {
    std::string directory;
    std::string challenge;
    std::string listener = "[::]:8443";
    std::string more;  ///< Keys of acme.
    std::string node = "edge";
  };

  [[nodiscard]] std::string text(const Spec& spec) const {
    return fmt::format(
        "services:\n"
        "  - {{name: web, address: \"240.64.0.10:80\", balance: round_robin, endpoints: {}}}\n"
        "relay:\n"
        "  workers: 1\n"
        "  acme:\n"
        "    directory: {}\n"
        "    terms_agreed: true\n"
        "    issuer_node: {}\n"
        "    contact: [\"mailto:ops@shop.test\"]\n"
        "    folder: {}\n"
        "    challenge: {}\n"
        "    certificates: [{{name: shop, names: [shop.test, www.shop.test]}}]\n"
        "{}"
        "  listeners:\n"
        "    - {{name: shop, address: \"{}\", service: web, tls: {{certificates: [{{folder: {}}}]}}}}\n",
        endpoints(8080), spec.directory, spec.node, folder(), spec.challenge, spec.more, spec.listener, folder());
  }
  [[nodiscard]] std::string folder() const { return file(folder_name_); }
  /// Of the machine: the node's name where none is configured.
  [[nodiscard]] static std::string host_name() {
    char name[256] = {};
    ::gethostname(name, sizeof(name) - 1);
    return name;
  }

  /// Pebble, and a resolver that says that all of .test is this node.
  void start_pebble(int certificate_seconds, const std::string& more = "") {
    const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
    const CertificatePem own = make_certificate_for("IP:" + clients_->v4(), end, &authority_);
    const std::string config = lab_->write_file(
        "pebble.json",
        fmt::format(R"({{"pebble":{{"listenAddress":"{}","managementListenAddress":"{}","certificate":"{}",)"
                    R"("privateKey":"{}","httpPort":5002,"tlsPort":8443,"certificateValidityPeriod":{}{}}}}})",
                    clients_->v4(14000), clients_->v4(15000), lab_->write_file("pebble.crt", own.certificate),
                    lab_->write_file("pebble.key", own.key), certificate_seconds, more));
    dns_ = Process::start(lab_->on(*clients_, "others", "dnsmasq.log"),
                          {"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                           "--port=8053", "--pid-file=", "--user=root", "--address=/test/" + node_->v4()});
    auto where = lab_->on(*clients_, "others", "pebble.log");
    where.environment = {"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=50", "PEBBLE_AUTHZREUSE=0"};
    pebble_ = Process::start(where, {"pebble", "-strict", "-config", config, "-dnsserver", clients_->v4(8053)});
    const auto root = [&] {
      const Output got = run({"curl", "-s", "--cacert", ca_, "https://" + clients_->v4(15000) + "/roots/0"},
                             lab_->on(*clients_, "others"));
      if (got.code == 0) root_ = lab_->write_file("root.pem", got.text);
      return got.code == 0;
    };
    ASSERT_TRUE(eventually(seconds(20), root)) << log_of("pebble.log");
  }
  [[nodiscard]] std::string pebble_directory() const { return "https://" + clients_->v4(14000) + "/dir"; }
  [[nodiscard]] std::string log_of(const std::string& name) const {
    return run({"tail", "-n", "30", file(name)}, {}).text;
  }

  Json acme() { return agent_->json({"certs"})["acme"]; }
  /// As its relay shows it.
  Output ask(const std::string& name = "shop.test", int port = 8443) {
    return run({"curl", "-s", "-S", "-m", "5", "--cacert", root_, "--resolve",
                fmt::format("{}:{}:{}", name, port, node_->v4()), fmt::format("https://{}:{}/", name, port)},
               lab_->on(*clients_, "others"));
  }
  void await_certificate(int port = 8443) {
    const auto served = [&] { return ask("shop.test", port).text.starts_with("web"); };
    ASSERT_TRUE(eventually(seconds(60), served)) << ask("shop.test", port).errors << acme().dump(2) << relay_->log();
    EXPECT_TRUE(ask("www.shop.test", port).text.starts_with("web"));
  }

  Process dns_;
  Process pebble_;
  std::string root_;
  std::string folder_name_ = "acme";
};

TEST_F(AcmeTest, pebble_by_http_01_with_a_bound_account_and_other_nodes_read_the_files) {
  NEED_PROGRAM("pebble");
  NEED_PROGRAM("dnsmasq");
  start_pebble(3600, R"(,"externalAccountBindingRequired":true,"externalAccountMACKeys":{"kid-1":)"
                     R"("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"})");
  const std::string key =
      lab_->write_file("eab.key", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n");
  Spec spec{.directory = pebble_directory(),
            .challenge = "http-01",
            .more = fmt::format("    ca: {}\n    listen: \"[::]:5002\"\n    eab: {{kid: kid-1, key: {}}}\n", ca_, key),
            .node = host_name()};
  agent_ = std::make_unique<Agent>(*lab_, *node_, AgentSpec{.body = text(spec)});
  agent_->start();
  relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
  relay_->start();
  await_certificate();
  const Json shown = acme()["certificates"][0];
  EXPECT_NE(shown["issuer"].get<std::string>().find("Pebble"), std::string::npos) << shown;
  EXPECT_EQ(shown["error"], "");
  EXPECT_EQ(shown["issued"], 1);
  EXPECT_GT(shown["next_in_s"].get<double>(), 2200) << "two thirds of an hour";
  EXPECT_LE(shown["next_in_s"].get<double>(), 2400);
  for (const std::string name : {"shop.key", "shop.crt", ".account.key", ".account.json"}) {
    struct stat status{};
    ASSERT_EQ(::stat((folder() + "/" + name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 0777, 0600U) << name;
  }
  EXPECT_EQ(run({"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                 "http://" + node_->v4(5002) + "/.well-known/acme-challenge/nothing"},
                lab_->on(*clients_, "others"))
                .text,
            "404");

  // This node is now one of the others: it fetches nothing and serves what the folder has.
  pebble_.kill();
  spec.node = "another";
  agent_->reconfigure(text(spec));
  const auto reads = [&] { return !acme().value("fetches", true); };
  ASSERT_TRUE(eventually(seconds(10), reads)) << acme().dump(2);
  EXPECT_NE(agent_->ctl({"certs"}).text.find("another fetches the certificates"), std::string::npos);
  EXPECT_TRUE(ask().text.starts_with("web")) << ask().errors;
  // Its relay never saw the issuer, and its folder is a copy.
  relay_->kill();
  const std::string original = folder();
  folder_name_ = "copied";
  ASSERT_EQ(run({"cp", "-a", original, folder()}, {}).code, 0);
  ASSERT_EQ(run({"rm", "-r", original}, {}).code, 0);
  agent_->reconfigure(text(spec));
  relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
  relay_->start();
  const auto served = [&] { return ask().text.starts_with("web"); };
  EXPECT_TRUE(eventually(seconds(20), served)) << ask().errors << relay_->log();
  EXPECT_FALSE(acme().value("fetches", true));
}

TEST_F(AcmeTest, pebble_by_tls_alpn_01_renews_while_clients_connect_and_keeps_the_certificate_when_that_fails) {
  NEED_PROGRAM("pebble");
  NEED_PROGRAM("dnsmasq");
  start_pebble(15);  // renewed after a third of that: ten seconds are left for it
  // The listener has no certificate, and has to listen for that.
  start_agent_and_relay(text({.directory = pebble_directory(),
                              .challenge = "tls-alpn-01",
                              .more = fmt::format("    ca: {}\n    renew_before: 10s\n", ca_),
                              .node = host_name()}));
  await_certificate();
  const auto issued = [&] { return acme()["certificates"][0]["issued"].get<int>(); };
  int failed = 0;
  const auto renewed = [&] {
    if (!ask().text.starts_with("web")) ++failed;
    return issued() >= 2;
  };
  EXPECT_TRUE(eventually(seconds(60), renewed)) << acme().dump(2) << relay_->log();
  EXPECT_EQ(failed, 0) << "a certificate was always good";
  const Json listener = agent_->json({"status"})["relay"]["listeners"][0];
  EXPECT_NE(listener["ended"].dump().find("acme challenge answered"), std::string::npos) << listener;
  EXPECT_EQ(listener["failed"].dump().find("acme challenge answered"), std::string::npos) << listener;

  dns_.kill();  // the issuer is asked, and does not find the names any more
  const auto complains = [&] { return !acme()["certificates"][0]["error"].get<std::string>().empty(); };
  ASSERT_TRUE(eventually(seconds(60), complains)) << acme().dump(2);
  const std::string error = acme()["certificates"][0]["error"];
  EXPECT_NE(error.find("shop.test"), std::string::npos) << error;
  EXPECT_GE(issued(), 2);
  const Output still = curl("shop.test", {"-k"});
  EXPECT_TRUE(still.text.starts_with("web")) << "the certificate of before is shown: " << still.errors;
  EXPECT_NE(agent_->http("/metrics").find("mesh_relay_acme_failing{name=\"shop\"} 1"), std::string::npos);
}

/// Both challenges; Caddy asks ports 80 and 443, and names as the host resolves them.
class CaddyTest : public AcmeTest, public testing::WithParamInterface<const char*> {};

TEST_P(CaddyTest, is_an_issuer_too) {
  NEED_PROGRAM("caddy");
  const std::string address = clients_->v4(9443);
  const std::string config = lab_->write_file(
      "Caddyfile",
      fmt::format("{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_sni {0}\n"
                  "\tstorage file_system {1}\n}}\nhttps://{2} {{\n\ttls internal\n\tacme_server\n}}\n",
                  clients_->v4(), file("caddy"), address));
  const std::string hosts =
      lab_->write_file("hosts", fmt::format("127.0.0.1 localhost\n{0} shop.test\n{0} www.shop.test\n", node_->v4()));
  auto where = lab_->on(*clients_, "others", "caddy.log");
  where.environment = {"HOME=" + file("")};
  const Process caddy = Process::start(
      where,
      {"unshare", "-m", "sh", "-c",
       fmt::format("mount --bind {} /etc/hosts && exec caddy run --adapter caddyfile --config {}", hosts, config)});
  root_ = file("caddy/pki/authorities/local/root.crt");
  const std::string directory = "https://" + address + "/acme/local/directory";
  const auto answers = [&] {
    return run({"curl", "-s", "-f", "--cacert", root_, directory}, lab_->on(*clients_, "others")).code == 0;
  };
  ASSERT_TRUE(eventually(seconds(30), answers)) << log_of("caddy.log");
  agent_ = std::make_unique<Agent>(*lab_, *node_,
                                   AgentSpec{.body = text({.directory = directory,
                                                           .challenge = GetParam(),
                                                           .listener = "[::]:443",
                                                           .more = fmt::format("    ca: {}\n", root_),
                                                           .node = host_name()})});
  agent_->start();
  relay_ = std::make_unique<RelayProcess>(*lab_, *node_, *agent_);
  relay_->start();
  await_certificate(443);
  EXPECT_NE(acme()["certificates"][0]["issuer"].get<std::string>().find("Caddy"), std::string::npos) << acme();
  if (HasFailure()) ADD_FAILURE() << log_of("caddy.log");
}

INSTANTIATE_TEST_SUITE_P(Challenges, CaddyTest, testing::Values("http-01", "tls-alpn-01"), [](const auto& info) {
  return std::string(info.param).substr(0, 4) == "http" ? "http_01" : "tls_alpn_01";
});

}  // namespace
}  // namespace mesh::test
