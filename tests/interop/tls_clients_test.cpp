// SPDX-License-Identifier: Apache-2.0
// Other people's TLS clients and scanners against the relay.
#include <fmt/format.h>

#include <fstream>

#include "tests/support/relay_test.hpp"

namespace mesh::test {
namespace {

using std::chrono::seconds;

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << "SKIPPED: " << name << " is not installed (scripts/setup --interop)"

class TlsClientsTest : public RelayTest {
 protected:
  [[nodiscard]] std::string tls(const std::string& more = "") const {
    return fmt::format("tls: {{certificates: [{}, {}]{}}}", pair("shop"), pair("cart"), more);
  }
  Output client(const std::vector<std::string>& argv, seconds patience = seconds(60)) {
    return run(argv, lab_->on(*clients_, "others"), patience);
  }
  Output shell(const std::string& command, seconds patience = seconds(60)) {
    return client({"bash", "-c", command}, patience);
  }
  [[nodiscard]] std::string address() const { return node_->v4(8443); }
};

TEST_F(TlsClientsTest, openssl_s_client_resumes_and_may_not_renegotiate) {
  start("service: web, " + tls(", alpn: [h2, http/1.1]"));
  const std::string connect = "openssl s_client -connect " + address() + " -servername cart.test -CAfile " + ca_ +
                              " -verify_return_error -verify_hostname cart.test ";
  for (const std::string version : {"-tls1_2", "-tls1_3"}) {
    const std::string session = file("session.pem");
    const Output first =
        shell("{ printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1; } | " + connect +
              version + " -alpn http/1.1 -sess_out " + session);
    EXPECT_NE(first.text.find("HTTP/1.1 200"), std::string::npos) << first.text << first.errors;
    EXPECT_NE(first.text.find("ALPN protocol: http/1.1"), std::string::npos) << first.text;
    EXPECT_NE(first.text.find("Verify return code: 0 (ok)"), std::string::npos) << first.text;
    const Output again = shell("sleep 0.3 | " + connect + version + " -sess_in " + session);
    EXPECT_NE(again.text.find("Reused, TLSv1"), std::string::npos) << again.text << again.errors;
  }
  const Output renegotiation = shell("{ sleep 0.3; echo R; sleep 1; } | " + connect + "-tls1_2");
  EXPECT_NE(renegotiation.errors.find("no renegotiation"), std::string::npos)
      << renegotiation.text << renegotiation.errors;
  for (const std::string old : {"-tls1", "-tls1_1"}) {
    const Output refused = shell("true | " + connect + old + " -cipher ALL:@SECLEVEL=0");
    EXPECT_NE(refused.code, 0) << old;
    EXPECT_NE(refused.errors.find("protocol version"), std::string::npos) << refused.errors;
  }
  EXPECT_NE(shell("true | " + connect + "-alpn smtp").errors.find("no application protocol"), std::string::npos);
}

TEST_F(TlsClientsTest, clients_show_certificates_to_curl_and_python) {
  NEED_PROGRAM("curl");
  const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
  const CertificatePem good = make_certificate_for("URI:spiffe://lab/good", end, &authority_);
  const CertificatePem revoked = make_certificate_for("URI:spiffe://lab/revoked", end, &authority_);
  const CertificatePem expired = make_certificate_for(
      "URI:spiffe://lab/old", std::chrono::system_clock::now() - std::chrono::hours(1), &authority_);
  lab_->write_file("crl.pem", make_revocation_list(authority_, {revoked}, end));
  for (const auto& [name, pem] : {std::pair("good", good), std::pair("revoked", revoked), std::pair("old", expired)}) {
    lab_->write_file(std::string(name) + ".crt", pem.certificate);
    lab_->write_file(std::string(name) + ".key", pem.key);
  }
  start("service: web, " + tls(fmt::format(", client: {{verify: require, ca: {}, crl: {}}}", ca_, file("crl.pem"))));
  const auto with = [&](const std::string& name) {
    return curl("shop.test", {"--cert", file(name + ".crt"), "--key", file(name + ".key")});
  };
  EXPECT_TRUE(with("good").text.starts_with("web")) << with("good").errors;
  EXPECT_NE(curl("shop.test").code, 0) << "without a certificate";
  EXPECT_NE(with("revoked").code, 0);
  EXPECT_NE(with("old").code, 0);
  const Output python = client({"python3", "-c",
                                "import socket, ssl, sys\n"
                                "c = ssl.create_default_context(cafile=sys.argv[1])\n"
                                "c.load_cert_chain(sys.argv[2], sys.argv[3])\n"
                                "s = c.wrap_socket(socket.create_connection((sys.argv[4], 8443)),"
                                " server_hostname='shop.test')\n"
                                "s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
                                "print(s.version(), s.recv(15))\n",
                                ca_, file("good.crt"), file("good.key"), node_->v4()});
  EXPECT_EQ(python.text, "TLSv1.3 b'HTTP/1.1 200 OK'\n") << python.errors;
  const auto failed = [&] { return agent_->json({"status"})["relay"]["listeners"][0]["failed"].dump(); };
  EXPECT_TRUE(eventually(seconds(10), [&] { return failed().find("tls: certificate") != std::string::npos; }))
      << failed();
}

TEST_F(TlsClientsTest, wrk_and_h2load_keep_their_connections) {
  NEED_PROGRAM("wrk");
  NEED_PROGRAM("h2load");
  start("service: web, " + tls(", alpn: [http/1.1]"));
  const Output wrk = client({"wrk", "-t1", "-c50", "-d2s", "https://" + address() + "/"});
  EXPECT_EQ(wrk.code, 0) << wrk.errors;
  EXPECT_NE(wrk.text.find("requests in"), std::string::npos) << wrk.text;
  EXPECT_EQ(wrk.text.find("Socket errors"), std::string::npos) << wrk.text;
  const Output h2load = client({"h2load", "--h1", "-n2000", "-c20", "https://" + address() + "/"});
  EXPECT_NE(h2load.text.find("2000 succeeded, 0 failed, 0 errored"), std::string::npos) << h2load.text;
}

TEST_F(TlsClientsTest, redis_cli_over_tls) {
  NEED_PROGRAM("redis-server");
  NEED_PROGRAM("redis-cli");
  servers_.clear();  // the port is Redis's now
  const Process redis = Process::start(
      lab_->on(*hosts_[0], "servers", "redis.log"),
      {"redis-server", "--port", "8080", "--bind", "*", "--save", "", "--appendonly", "no", "--protected-mode", "no"});
  start("service: one, " + tls());
  const std::string cli = fmt::format("redis-cli --tls --cacert {} --sni shop.test -h {} -p 8443 ", ca_, node_->v4());
  ASSERT_TRUE(eventually(seconds(10), [&] { return shell(cli + "ping").text == "PONG\n"; }))
      << shell(cli + "ping").errors;
  const std::string value(100'000, 'v');
  EXPECT_EQ(shell(cli + "set key " + value).text, "OK\n");
  EXPECT_EQ(shell(cli + "get key").text, value + "\n");
}

TEST_F(TlsClientsTest, psql_asks_in_clear_first_and_is_refused_at_once) {
  NEED_PROGRAM("psql");
  start("service: web, " + tls());
  const Output psql = client({"psql", "-c", "select 1",
                              fmt::format("host=shop.test hostaddr={} port=8443 user=postgres sslmode=verify-full "
                                          "sslrootcert={}",
                                          node_->v4(), ca_)});
  EXPECT_EQ(psql.code, 2) << psql.text;
  const auto failed = [&] { return agent_->json({"status"})["relay"]["listeners"][0]["failed"].dump(); };
  EXPECT_TRUE(eventually(seconds(5), [&] { return failed().find("tls: not_tls") != std::string::npos; })) << failed();
}

TEST_F(TlsClientsTest, sslscan_finds_nothing_weak) {
  NEED_PROGRAM("sslscan");
  start("service: web, " + tls(", alpn: [h2, http/1.1]"));
  const Output scan = client({"sslscan", "--no-colour", "--sni-name=shop.test", address()}, seconds(90));
  EXPECT_EQ(scan.code, 0) << scan.errors;
  for (const std::string good : {"TLSv1.2   enabled", "TLSv1.3   enabled", "TLSv1.1   disabled", "TLSv1.0   disabled",
                                 "SSLv3     disabled", "Session renegotiation not supported"}) {
    EXPECT_NE(scan.text.find(good), std::string::npos) << good << " is missing in\n" << scan.text;
  }
  for (const std::string weak : {"CBC", "3DES", "RC4", "NULL", " DHE-", "TLSv1.2  256 bits  AES"}) {
    EXPECT_EQ(scan.text.find(weak), std::string::npos) << weak << " in\n" << scan.text;
  }
}

TEST_F(TlsClientsTest, testssl_finds_nothing_weak) {
  NEED_PROGRAM("testssl");
  start("service: web, " + tls(", alpn: [h2, http/1.1]"));
  const std::string findings = file("testssl.json");
  const Output scan =
      client({"testssl", "--quiet", "--color", "0", "--warnings", "off", "--openssl", "/usr/bin/openssl", "--jsonfile",
              findings, "--nodns", "none", "-p", "-s", "-f", "-U", address()},
             seconds(110));
  std::ifstream text(findings);
  const Json found = Json::parse(text, nullptr, false);
  ASSERT_TRUE(found.is_array()) << scan.text << scan.errors;
  EXPECT_GT(found.size(), 20U) << found;
  for (const Json& one : found) {
    if (one["id"] == "engine_problem") continue;  // of the scanner's own library
    const std::string severity = one["severity"];
    EXPECT_TRUE(severity == "OK" || severity == "INFO") << one;
  }
}

}  // namespace
}  // namespace mesh::test
