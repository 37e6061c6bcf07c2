// SPDX-License-Identifier: Apache-2.0
// Programs that know nothing of us, through virtual addresses: curl, Redis, PostgreSQL, DNS.
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/support/agent_test.hpp"
#include "tests/support/certificate.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

class RealClientsTest : public AgentTest {
 protected:
  void add_hosts(int count) {
    for (int i = 1; i <= count; ++i) hosts_.push_back(&lab_->add_host("host" + std::to_string(i)));
  }

  /// Waits until something accepts TCP connections there.
  void await_listening(const std::string& address) {
    ASSERT_TRUE(eventually(
        seconds(20),
        [&] {
          const int errnum =
              call(lab_->on(*node_, "others"), Via::kTcp, address, 1, std::chrono::milliseconds(100))[0].errnum;
          return errnum == 0 || errnum == ETIMEDOUT;
        }))
        << "nothing listens on " << address;
  }

  std::string service(const std::string& name, const std::string& address, const std::string& protocol, int port,
                      bool v6 = false) {
    return fmt::format("  - {{name: {}, address: \"{}\", protocol: {}, balance: round_robin, endpoints: {}}}\n", name,
                       address, protocol, endpoints(port, v6));
  }

  Output client(const std::vector<std::string>& argv) { return run(argv, app(), seconds(60)); }
};

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << name << " is not installed (scripts/setup --interop)"

TEST_F(RealClientsTest, curl) {
  NEED_PROGRAM("curl");
  add_servers(3);
  start_agent({.body = "services:\n" + service("web", "240.64.0.10:80", "tcp", 8080) +
                       service("web6", "[fd6d:6573:6864::10]:80", "tcp", 8080, true)});
  for (const std::string url : {"http://240.64.0.10/", "http://[fd6d:6573:6864::10]/"}) {
    std::multiset<std::string> answers;
    for (int i = 0; i < 6; ++i) {
      const Output output = client({"curl", "-sS", "-g", "-m", "5", "-w", "%{remote_ip}", url});
      ASSERT_EQ(output.code, 0) << output.errors;
      const auto line = output.text.find('\n');
      answers.insert(output.text.substr(0, line));
      EXPECT_NE(url.find(output.text.substr(line + 1)), std::string::npos) << "curl saw " << output.text;
    }
    for (const char* name : {"web1", "web2", "web3"}) EXPECT_EQ(answers.count(name), 2U) << url << " " << name;
  }
}

TEST_F(RealClientsTest, redis_benchmark) {
  NEED_PROGRAM("redis-server");
  NEED_PROGRAM("redis-benchmark");
  add_hosts(2);
  std::vector<Process> servers;
  for (const Host* host : hosts_) {
    servers.push_back(Process::start(lab_->on(*host, "servers", "redis-" + host->name() + ".log"),
                                     {"redis-server", "--port", "6379", "--save", "", "--appendonly", "no",
                                      "--protected-mode", "no", "--bind", "*", "-::*", "--dir", lab_->folder()}));
    await_listening(host->v4(6379));
  }
  start_agent({.body = "services:\n" + service("cache", "240.64.0.11:6379", "tcp", 6379)});
  const Output output =
      client({"redis-benchmark", "-h", "240.64.0.11", "-p", "6379", "-n", "20000", "-c", "20", "-t", "set,get", "-q"});
  EXPECT_EQ(output.code, 0) << output.errors;
  EXPECT_NE(output.text.find("GET: "), std::string::npos) << output.text << output.errors;
  for (const Host* host : hosts_) {
    const Output info = run({"redis-cli", "-h", host->v4(), "info", "commandstats"}, lab_->on(*node_, "others"));
    EXPECT_NE(info.text.find("cmdstat_get"), std::string::npos) << host->name() << " served no GET:\n" << info.text;
  }
}

/// A server of PostgreSQL on its default port, with what `settings` add; trusts everybody.
class PostgresTest : public RealClientsTest {
 protected:
  void SetUp() override {
    RealClientsTest::SetUp();
    if (!lab_) return;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
      bin_ = std::max(bin_, entry.path() / "bin");
    }
    user_ = ::getpwnam("postgres");
    if (bin_.empty() || user_ == nullptr || !fs::exists(bin_ / "initdb") || !have_program("psql")) {
      GTEST_SKIP() << "SKIPPED: no PostgreSQL server is installed (scripts/setup --interop)";
    }
    add_hosts(1);
  }

  void give_to_postgres(const std::string& path) const {
    ASSERT_EQ(::chown(path.c_str(), user_->pw_uid, user_->pw_gid), 0);
  }
  void start_postgres(const std::vector<std::string>& settings = {}) {
    const std::string data = lab_->folder() / "pg";
    fs::create_directory(data);
    give_to_postgres(data);
    SpawnOptions as_postgres = lab_->on(*hosts_[0], "servers");
    as_postgres.uid = user_->pw_uid;
    as_postgres.gid = user_->pw_gid;
    as_postgres.directory = data;
    const Output made = run({bin_ / "initdb", "-D", data, "-A", "trust", "-N", "-U", "postgres", "--no-locale"},
                            as_postgres, seconds(60));
    ASSERT_EQ(made.code, 0) << made.errors;
    must_run({"bash", "-c", "echo 'host all all all trust' >> " + data + "/pg_hba.conf"});
    as_postgres.output = data + "/log";
    std::vector<std::string> argv{bin_ / "postgres",    "-D", data,       "-k", data, "-c",
                                  "listen_addresses=*", "-c", "fsync=off"};
    for (const std::string& setting : settings) {
      argv.emplace_back("-c");
      argv.push_back(setting);
    }
    server_ = Process::start(as_postgres, argv);
    await_listening(hosts_[0]->v4(5432));
  }

  fs::path bin_;
  const passwd* user_ = nullptr;
  Process server_;
};

TEST_F(PostgresTest, pgbench) {
  NEED_PROGRAM("pgbench");
  start_postgres();
  start_agent({.body = "services:\n" + service("db", "240.64.0.12:5432", "tcp", 5432) +
                       service("db6", "[fd6d:6573:6864::12]:5432", "tcp", 5432, true)});

  const Output filled = client({"pgbench", "-h", "240.64.0.12", "-U", "postgres", "-i", "-q", "postgres"});
  ASSERT_EQ(filled.code, 0) << filled.errors;
  for (const char* host : {"240.64.0.12", "fd6d:6573:6864::12"}) {
    const Output output =
        client({"pgbench", "-h", host, "-U", "postgres", "-n", "-S", "-c", "4", "-t", "100", "postgres"});
    EXPECT_EQ(output.code, 0) << output.errors;
    EXPECT_NE(output.text.find("number of failed transactions: 0"), std::string::npos) << output.text;
  }
  // A connection per transaction.
  const Output fresh =
      client({"pgbench", "-h", "240.64.0.12", "-U", "postgres", "-n", "-S", "-C", "-c", "2", "-t", "25", "postgres"});
  EXPECT_NE(fresh.text.find("number of transactions actually processed: 50/50"), std::string::npos)
      << fresh.text << fresh.errors;
}

TEST_F(PostgresTest, psql_verifies_the_server_through_a_virtual_address) {
  const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
  const CertificatePem authority = make_authority("lab", end);
  const CertificatePem pair = make_certificate_for("DNS:db.test", end, &authority);
  const std::string ca = lab_->write_file("ca.pem", authority.certificate);
  const std::string certificate = lab_->write_file("db.crt", pair.certificate);
  const std::string key = lab_->write_file("db.key", pair.key);
  fs::permissions(key, fs::perms::owner_read);
  give_to_postgres(key);
  start_postgres({"ssl=on", "ssl_cert_file=" + certificate, "ssl_key_file=" + key});
  start_agent({.body = "services:\n" + service("db", "240.64.0.12:5432", "tcp", 5432)});
  const auto ask = [&](const std::string& name) {
    return client(
        {"psql", "-At", "-c", "select version from pg_stat_ssl where pid = pg_backend_pid()",
         fmt::format("host={} hostaddr=240.64.0.12 user=postgres sslmode=verify-full sslrootcert={}", name, ca)});
  };
  EXPECT_EQ(ask("db.test").text, "TLSv1.3\n") << ask("db.test").errors;
  EXPECT_NE(ask("other.test").errors.find("does not match host name"), std::string::npos) << ask("other.test").errors;
}

TEST_F(RealClientsTest, dig) {
  NEED_PROGRAM("dig");
  NEED_PROGRAM("dnsmasq");
  add_hosts(2);
  std::vector<Process> servers;
  for (const Host* host : hosts_) {
    servers.push_back(Process::start(
        lab_->on(*host, "servers", "dnsmasq-" + host->name() + ".log"),
        {"dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root",
         "--pid-file=", "--conf-file=/dev/null", "--listen-address=" + host->v4(), "--listen-address=" + host->v6(),
         "--bind-interfaces", "--txt-record=who.lab," + host->name()}));
    await_listening(host->v4(53));
  }
  start_agent({.body = "services:\n" + service("dns-udp", "240.64.0.13:53", "udp", 53) +
                       service("dns-tcp", "240.64.0.13:53", "tcp", 53) +
                       service("dns6-udp", "[fd6d:6573:6864::13]:53", "udp", 53, true)});
  const auto ask = [&](const std::string& server, const char* transport) {
    std::multiset<std::string> answers;
    for (int i = 0; i < 4; ++i) {
      const Output output =
          client({"dig", "@" + server, "who.lab", "TXT", "+short", "+tries=1", "+timeout=2", transport});
      EXPECT_EQ(output.code, 0) << output.text << output.errors;
      answers.insert(output.text);
    }
    return answers;
  };
  const std::multiset<std::string> even{"\"host1\"\n", "\"host1\"\n", "\"host2\"\n", "\"host2\"\n"};
  EXPECT_EQ(ask("240.64.0.13", "+notcp"), even);
  EXPECT_EQ(ask("240.64.0.13", "+tcp"), even);
  EXPECT_EQ(ask("fd6d:6573:6864::13", "+notcp"), even);
}

}  // namespace
}  // namespace mesh::test
