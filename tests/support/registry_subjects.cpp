// SPDX-License-Identifier: Apache-2.0
#include "tests/support/registry_subjects.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include "tests/support/agent.hpp"
#include "tests/support/consul_double.hpp"
#include "tests/support/eureka_double.hpp"
#include "tests/support/kubernetes_double.hpp"
#include "tests/support/xds_double.hpp"
#include "tests/support/zookeeper_server.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int kPort = 7000;

using Act = std::function<void()>;

/// What registries of several kinds have in common.
class Registry : public Subject {
 protected:
  explicit Registry(Stage& stage) : stage_(stage) {}

  Fault killed() {
    return {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }};
  }
  static Fault hung(Process& process) {
    return {.name = "hung", .strike = [&] { process.signal(SIGSTOP); }, .mend = [&] { process.signal(SIGCONT); }};
  }
  static Fault garbage(Act begin, Act end) {
    return {.name = "garbage", .strike = std::move(begin), .mend = std::move(end)};
  }
  /// What it says meanwhile is slow, and right.
  Fault slow(const Act& begin, const Act& end) {
    const auto then_set = [this](const Act& act, const Servers& servers) {
      return [this, act, servers] {
        act();
        set(servers);
      };
    };
    return {.name = "slow",
            .strike = then_set(begin, kOlder),
            .mend = then_set(end, kNewer),
            .state = "synced",
            .during = kOlder};
  }
  static Fault empty(Act begin, Act end) {
    return {.name = "empty", .strike = std::move(begin), .mend = std::move(end), .state = "synced", .during = kNobody};
  }
  /// `go_back`: to what remember() was called for.
  Fault older(Act go_back) {
    return {.name = "older",
            .strike = std::move(go_back),
            .mend =
                [this] {
                  known_ = kOlder;
                  set(kNewer);
                },
            .state = "synced",
            .during = kOlder};
  }
  Fault certificate_expired(std::string says) {
    const auto restart_with = [this](std::chrono::hours left) {
      return [this, left] {
        stop();
        set_certificate(std::chrono::system_clock::now() + left);
        start();
      };
    };
    return {
        .name = "certificate expired", .strike = restart_with(-1h), .mend = restart_with(24h), .says = std::move(says)};
  }
  static Fault token_revoked(Act revoke, Act give, std::string says) {
    return {.name = "token revoked", .strike = std::move(revoke), .mend = std::move(give), .says = std::move(says)};
  }
  static Fault has_none(std::string fault, std::string why) {
    return {.name = std::move(fault), .why_not = std::move(why)};
  }

  /// For certificate_expired(): what it shows from its next start on.
  virtual void set_certificate(std::chrono::system_clock::time_point /*end*/) {}
  /// Those that were known and are no more: `servers` are what is known from now on.
  Servers know(const Servers& servers) {
    Servers gone = std::exchange(known_, servers);
    std::erase_if(gone, [&](int one) { return std::ranges::find(servers, one) != servers.end(); });
    return gone;
  }

  Stage& stage_;
  Servers known_ = kOlder;
};

class Kubernetes final : public Registry {
 public:
  explicit Kubernetes(Stage& stage)
      : Registry(stage), api_({.folder = stage.folder("kubernetes"), .spawn = stage.lab.on(stage.node)}) {
    api_.add_service("orders", 80);
  }
  std::string body() const override {
    return "sources:\n  - type: kubernetes\n    kubernetes: {kubeconfig: " + api_.kubeconfig() +
           ", namespaces: [shop], check_interval: 1s}\n";
  }
  std::string service() const override { return "orders.shop"; }
  void set(const Servers& servers) override {
    std::vector<Json> endpoints;
    for (const int one : servers) endpoints.emplace_back(stage_.ip(one));
    api_.set_endpoints("orders", kPort, endpoints);
  }
  void remember() override { older_ = api_.control("dump"); }
  void stop() override {
    newer_ = api_.control("dump");
    api_.stop();
  }
  void start() override { start_with(newer_); }

  std::vector<Fault> faults() override {
    const auto fault = [this](const Json& what) {
      return [this, what] {
        api_.set_faults(what);
        api_.control("close", Json::object());
      };
    };
    const auto token = [this](const std::string& text) {
      return [this, text] { api_.control("token", {{"token", text}}); };
    };
    return {killed(),
            hung(api_.process()),
            garbage(fault({{"garbage", "]{nonsense"}}), fault(Json::object())),
            slow(fault({{"piece", 200}, {"pause", 0.05}}), fault(Json::object())),
            empty(
                [this] {
                  stop();
                  api_.start();
                },
                [this] {
                  api_.stop();
                  start();
                }),
            older([this] {
              stop();
              start_with(older_);
            }),
            certificate_expired("expired"),
            token_revoked(token("second"), token("first"), "401")};
  }

 private:
  void set_certificate(std::chrono::system_clock::time_point end) override { api_.make_certificate(end); }
  void start_with(const Json& dump) {
    const std::string file = stage_.lab.write_file("kubernetes/dump", dump.dump());
    api_.start({"--restore", file});
  }
  KubernetesApi api_;
  Json older_, newer_;
};

/// One of the doubles that instances register with.
template <typename Server>
class Registrar : public Registry {
 public:
  void set(const Servers& servers) override {
    for (const int one : servers) add(one);
    for (const int one : know(servers)) remove(one);
  }
  void remember() override { server_.control("PUT", "/save", Json::object()); }
  void stop() override { server_.stop(); }
  void start() override {
    std::vector<std::string> options;
    for (const int one : known_) {
      const auto more = with(one);
      options.insert(options.end(), more.begin(), more.end());
    }
    server_.start(options);
  }

 protected:
  Registrar(Stage& stage, const std::string& folder)
      : Registry(stage),
        server_(
            {.folder = stage.folder(folder), .address = stage.registry.v4(), .spawn = stage.lab.on(stage.registry)}) {
    set_certificate(std::chrono::system_clock::now() + 24h);
  }

  virtual void add(int server) = 0;
  virtual void remove(int server) = 0;
  virtual std::vector<std::string> with(int server) = 0;
  static std::string id(int server) { return "web" + std::to_string(server); }
  void set_certificate(std::chrono::system_clock::time_point end) override { server_.use_tls(end); }

  Act control(const std::string& path, const Json& what = Json::object()) {
    return [this, path, what] { server_.control("PUT", path, what); };
  }
  Act no_faults() {
    return [this] { server_.end_faults(); };
  }

  Server server_;
};

class Consul final : public Registrar<ConsulServer> {
 public:
  explicit Consul(Stage& stage) : Registrar(stage, "consul"), token_(stage.lab.write_file("consul/token", "secret\n")) {
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: consul\n    consul:\n      address: {}\n      wait: 1s\n      timeout: 1s\n"
        "      churn_interval: 50ms\n      token_file: {}\n      tls: {{ca_file: {}}}\n"
        "      services: [{{match: orders, address: 240.64.0.10, port: 80}}]\n",
        server_.url(), token_, server_.ca_file());
  }
  void start() override {
    Registrar::start();
    token(true)();
  }

  std::vector<Fault> faults() override {
    return {older(control("/restore")),  // first: a restart forgets it
            killed(),
            hung(server_.process()),
            garbage(control("/fault", {{"kind", "garbage"}, {"path", "/v1/"}}), no_faults()),
            slow(control("/fault", {{"kind", "slow"}, {"path", "/v1/"}, {"seconds", 2}}), no_faults()),
            empty(control("/fault", {{"kind", "empty"}, {"path", "/v1/"}}),
                  [this] {
                    server_.end_faults();
                    server_.add("orders", id(2), stage_.ip(2), kPort + 1);  // answers at once, not after its wait
                    add(2);
                  }),
            certificate_expired("expired"),
            token_revoked(token(false), token(true), "403")};
  }

 private:
  void add(int server) override { server_.add("orders", id(server), stage_.ip(server), kPort); }
  void remove(int server) override { server_.remove(id(server)); }
  std::vector<std::string> with(int server) override {
    return ConsulServer::with("orders", id(server), stage_.ip(server), kPort);
  }
  Act token(bool good) { return control("/token", {{"secret", "secret"}, {"services", good ? Json({""}) : Json()}}); }
  std::string token_;
};

class Eureka final : public Registrar<EurekaServer> {
 public:
  explicit Eureka(Stage& stage)
      : Registrar(stage, "eureka"), credentials_(stage.lab.write_file("eureka/credentials", "meshd:secret\n")) {
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: eureka\n    eureka:\n      servers: [\"{}\"]\n      interval: 1s\n      timeout: 1s\n"
        "      default_probe: false\n      credentials_file: {}\n      tls: {{ca_file: {}}}\n"
        "      services: [{{match: orders, port: 80}}]\n",
        server_.url(), credentials_, server_.ca_file());
  }

  std::vector<Fault> faults() override {
    const auto password = [this](const std::string& text) {
      return control("/auth", {{"user", "meshd"}, {"password", text}});
    };
    return {older(control("/restore")),  // first: a restart forgets it
            killed(),
            hung(server_.process()),
            garbage(control("/fault", {{"kind", "garbage"}}), no_faults()),
            slow(control("/fault", {{"kind", "slow"}, {"seconds", 2}}), no_faults()),
            empty(control("/fault", {{"kind", "no_apps"}}), no_faults()),
            certificate_expired("expired"),
            token_revoked(password("other"), password("secret"), "401")};
  }

 private:
  void add(int server) override { server_.add("ORDERS", id(server), stage_.ip(server), kPort); }
  void remove(int server) override { server_.remove("ORDERS", id(server)); }
  std::vector<std::string> with(int server) override {
    return EurekaServer::with("ORDERS", id(server), stage_.ip(server), kPort);
  }
  std::string credentials_;
};

class Xds final : public Registry {
 public:
  explicit Xds(Stage& stage)
      : Registry(stage),
        token_(stage.lab.write_file("xds-token", "secret\n")),
        server_({.folder = stage.folder("xds"),
                 .address = stage.registry.v4(),
                 .port = 18000,
                 .spawn = stage.lab.on(stage.registry)}) {
    server_.want_token("secret");
    set_certificate(std::chrono::system_clock::now() + 24h);
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: xds\n    xds:\n      server: {}\n      timeout: 1s\n      keepalive: 10s\n"
        "      token_file: {}\n      tls: {{ca_file: {}}}\n      services: [{{match: orders, port: 80}}]\n",
        server_.url(), token_, server_.file("ca.pem"));
  }
  void set(const Servers& servers) override {
    known_ = servers;
    server_.set_clusters(clusters());
    server_.set_endpoints(endpoints());
  }
  void stop() override { server_.stop(); }
  void start() override { server_.start({{"clusters", clusters()}, {"endpoints", endpoints()}}); }

  std::vector<Fault> faults() override {
    const auto token = [this](const std::string& text) {
      return [this, text] {
        server_.control("PUT", "/token", {{"token", text}});
        server_.control("POST", "/drop");
      };
    };
    const auto no_faults = [this] { server_.end_faults(); };
    return {killed(),
            hung(server_.process()),
            garbage(
                [this] {
                  server_.fault("garbage");
                  server_.control("POST", "/drop");
                },
                no_faults),
            slow([this] { server_.fault("slow"); }, no_faults),
            empty([this] { server_.set_clusters(Json::object()); }, [this] { server_.set_clusters(clusters()); }),
            older([this] {
              stop();
              known_ = kOlder;
              server_.begin_at_version(-100);
              start();
            }),
            certificate_expired("certificate"),
            token_revoked(token("other"), token("secret"), "no such token")};
  }

 private:
  void set_certificate(std::chrono::system_clock::time_point end) override { server_.use_tls(end); }
  static Json clusters() { return {{"orders", Json::object()}}; }
  [[nodiscard]] Json endpoints() const {
    Json addresses = Json::array();
    for (const int one : known_) addresses.push_back(fmt::format("{}:{}", stage_.ip(one), kPort));
    return {{"orders", Json::array({{{"weight", 1}, {"endpoints", addresses}}})}};
  }
  std::string token_;
  XdsServer server_;
};

class Zookeeper final : public Registry {
 public:
  explicit Zookeeper(Stage& stage)
      : Registry(stage),
        folder_(stage.folder("zookeeper")),
        credentials_(stage.lab.write_file("zookeeper-auth", "reader:secret\n")),
        server_({.folder = folder_, .address = stage.registry.v4(), .spawn = stage.lab.on(stage.registry)}) {
    pass("pass");
    proxy_ = Process::start(stage_.lab.on(stage_.registry, "others", "proxy.log"),
                            {"python3", std::string(MESH_SOURCE_DIR) + "/tests/doubles/fault_proxy.py", "--listen",
                             proxy(), "--to", server_.address(), "--mode", mode_file()});
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: zookeeper\n    zookeeper: {{servers: [\"{}\"], session_timeout: 3s, auth_file: {},\n"
        "      services: [{{match: orders, port: 80}}]}}\n",
        proxy(), credentials_);
  }
  void set(const Servers& servers) override {
    std::string program = "import json\n";
    for (const int one : servers) {
      program += fmt::format(
          "p, d = '/services/orders/{0}', json.dumps(dict(name='orders', id='{0}', address='{1}', port={2})).encode()\n"
          "zk.set(p, d) if zk.exists(p) else zk.create(p, d, makepath=True)\n",
          one, stage_.ip(one), kPort);
    }
    for (const int one : know(servers)) program += fmt::format("zk.delete('/services/orders/{}')\n", one);
    server_.kazoo(program);
  }
  void remember() override {
    stop();
    fs::copy(folder_ + "/data", folder_ + "/older", fs::copy_options::recursive);
    start();
  }
  void stop() override { server_.stop(); }
  void start() override { server_.start(); }

  std::vector<Fault> faults() override {
    const auto acl = [this](const std::string& acls) {
      server_.kazoo("zk.set_acls('/services/orders', [" + acls + "])");
      stop();  // it asks whether one may read when one reads
      start();
    };
    const auto mode = [this](const std::string& name) { return [this, name] { pass(name); }; };
    const std::string only_writers = "make_digest_acl('writer', 'other', all=True)";
    return {killed(),
            hung(server_.process()),
            garbage(mode("garbage"), mode("pass")),
            slow(mode("slow"), mode("pass")),
            empty([this] { set(kNobody); }, [this] { set(kNewer); }),
            older([this] {
              stop();
              fs::remove_all(folder_ + "/data");
              fs::copy(folder_ + "/older", folder_ + "/data", fs::copy_options::recursive);
              start();
            }),
            has_none("certificate expired", "the client speaks no TLS to ZooKeeper"),
            token_revoked([=] { acl(only_writers); },
                          [this] {
                            server_.kazoo(
                                "zk.add_auth('digest', 'writer:other')\n"
                                "zk.set_acls('/services/orders', [make_digest_acl('reader', 'secret', all=True), "
                                "make_digest_acl('writer', 'other', all=True)])");
                          },
                          "/services/orders")};
  }

 private:
  std::string proxy() const { return stage_.registry.v4(2181); }
  std::string mode_file() const { return folder_ + "/mode"; }
  void pass(const std::string& mode) const { std::ofstream(mode_file()) << mode; }
  std::string folder_;
  std::string credentials_;
  ZookeeperServer server_;
  Process proxy_;
};

class Dns final : public Registry {
 public:
  explicit Dns(Stage& stage) : Registry(stage), state_(stage.folder("dns") + "/state") {
    set(kOlder);
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: dns\n    dns:\n      servers: [\"{}\"]\n      ttl_floor: 1s\n      timeout: 500ms\n"
        "      tries: 1\n      services: [{{name: orders, host: web.example, port: 80, endpoint_port: {}}}]\n",
        stage_.registry.v4(), kPort);
  }
  void set(const Servers& servers) override {
    known_ = servers;
    write();
  }
  void stop() override { server_.kill(); }
  void start() override {
    server_ = Process::start(stage_.lab.on(stage_.registry, "others", "dns.log"),
                             {"python3", std::string(MESH_SOURCE_DIR) + "/tests/doubles/dns_double.py", "--address",
                              stage_.registry.v4(), "--state", state_});
  }
  std::vector<Fault> faults() override {
    const auto mode = [this](const std::string& name) {
      return [this, name] {
        mode_ = name;
        write();
      };
    };
    return {killed(),
            hung(server_),
            garbage(mode("garbage"), mode("ok")),
            slow(mode("slow"), mode("ok")),
            empty(mode("empty"), mode("ok")),
            has_none("older", "answers have no version: an older zone is a zone"),
            has_none("certificate expired", "plain DNS has none"),
            has_none("token revoked", "plain DNS has none")};
  }

 private:
  void write() const {
    std::vector<std::string> addresses;
    for (const int one : known_) addresses.push_back(stage_.ip(one));
    const std::string fresh = state_ + ".new";
    std::ofstream(fresh) << Json{{"names", {{"web.example", addresses}}}, {"ttl", 1}, {"mode", mode_}}.dump();
    fs::rename(fresh, state_);
  }
  std::string state_;
  std::string mode_ = "ok";
  Process server_;
};

template <typename T>
Kind kind(std::string name, std::function<std::string()> unavailable = [] { return std::string(); }) {
  return {std::move(name), std::move(unavailable), [](Stage& stage) { return std::make_unique<T>(stage); }};
}

}  // namespace

const std::vector<Kind>& registry_kinds() {
  static const std::vector<Kind> all = {
      kind<Dns>("dns"),       kind<Kubernetes>("kubernetes"),
      kind<Consul>("consul"), kind<Zookeeper>("zookeeper", ZookeeperServer::unavailable),
      kind<Eureka>("eureka"), kind<Xds>("xds", python_grpc_unavailable)};
  return all;
}

}  // namespace mesh::test
