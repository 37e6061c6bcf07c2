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
#include "tests/support/zookeeper_server.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int kPort = 7000;

Fault hung(Process& process) {
  return {.name = "hung", .strike = [&] { process.signal(SIGSTOP); }, .mend = [&] { process.signal(SIGCONT); }};
}

class Kubernetes final : public Subject {
 public:
  explicit Kubernetes(Stage& stage)
      : stage_(stage), api_({.folder = stage.folder("kubernetes"), .spawn = stage.lab.on(stage.node)}) {
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
      api_.set_faults(what);
      api_.control("close", Json::object());
    };
    const auto certificate = [this](std::chrono::hours left) {
      stop();
      api_.make_certificate(std::chrono::system_clock::now() + left);
      start();
    };
    return {
        {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }},
        hung(api_.process()),
        {.name = "garbage",
         .strike = [=] { fault({{"garbage", "]{nonsense"}}); },
         .mend = [=] { fault(Json::object()); }},
        {.name = "slow",
         .strike =
             [this, fault] {
               fault({{"piece", 200}, {"pause", 0.05}});
               set(kOlder);
             },
         .mend =
             [this, fault] {
               fault(Json::object());
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "empty",
         .strike =
             [this] {
               stop();
               api_.start();
             },
         .mend =
             [this] {
               api_.stop();
               start();
             },
         .state = "synced",
         .during = kNobody},
        {.name = "older",
         .strike =
             [this] {
               stop();
               start_with(older_);
             },
         .mend = [this] { set(kNewer); },
         .state = "synced",
         .during = kOlder},
        {.name = "certificate expired",
         .strike = [=] { certificate(-1h); },
         .mend = [=] { certificate(24h); },
         .says = "expired"},
        {.name = "token revoked",
         .strike = [this] { api_.control("token", {{"token", "second"}}); },
         .mend = [this] { api_.control("token", {{"token", "first"}}); },
         .says = "401"},
    };
  }

 private:
  void start_with(const Json& dump) {
    const std::string file = stage_.lab.write_file("kubernetes/dump", dump.dump());
    api_.start({"--restore", file});
  }
  Stage& stage_;
  KubernetesApi api_;
  Json older_, newer_;
};

class Consul final : public Subject {
 public:
  explicit Consul(Stage& stage)
      : stage_(stage),
        token_(stage.lab.write_file("consul/token", "secret\n")),
        consul_(
            {.folder = stage.folder("consul"), .address = stage.registry.v4(), .spawn = stage.lab.on(stage.registry)}) {
    set_certificate(24h);
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: consul\n    consul:\n      address: {}\n      wait: 1s\n      timeout: 1s\n"
        "      churn_interval: 50ms\n      token_file: {}\n      tls: {{ca_file: {}}}\n"
        "      services: [{{match: orders, address: 240.64.0.10, port: 80}}]\n",
        consul_.url(), token_, consul_.ca_file());
  }
  void set(const Servers& servers) override {
    for (const int one : servers) consul_.add("orders", id(one), stage_.ip(one), kPort);
    for (const int one : std::exchange(known_, servers)) {
      if (std::ranges::find(servers, one) == servers.end()) consul_.remove(id(one));
    }
  }
  void remember() override { consul_.control("PUT", "/save", Json::object()); }
  void stop() override { consul_.stop(); }
  void start() override {
    std::vector<std::string> options = {"--acl", "deny"};
    for (const int one : known_) {
      const auto more = ConsulServer::with("orders", id(one), stage_.ip(one), kPort);
      options.insert(options.end(), more.begin(), more.end());
    }
    consul_.start(options);
    allow(true);
  }

  std::vector<Fault> faults() override {
    const auto fault = [this](Json what) { return [this, what] { consul_.fault(what); }; };
    const auto mend = [this] { consul_.end_faults(); };
    const auto certificate = [this](std::chrono::hours left) {
      stop();
      set_certificate(left);
      start();
    };
    return {
        {.name = "older",  // first: a restart forgets it
         .strike = [this] { consul_.control("PUT", "/restore", Json::object()); },
         .mend =
             [this] {
               known_ = kOlder;
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }},
        hung(consul_.process()),
        {.name = "garbage", .strike = fault({{"kind", "garbage"}, {"path", "/v1/"}}), .mend = mend},
        {.name = "slow",
         .strike =
             [this] {
               consul_.fault({{"kind", "slow"}, {"path", "/v1/"}, {"seconds", 2}});
               set(kOlder);
             },
         .mend =
             [this, mend] {
               mend();
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "empty",
         .strike = fault({{"kind", "empty"}, {"path", "/v1/"}}),
         .mend =
             [this, mend] {
               mend();
               consul_.add("orders", id(2), stage_.ip(2), kPort + 1);  // answers at once, not after its wait
               consul_.add("orders", id(2), stage_.ip(2), kPort);
             },
         .state = "synced",
         .during = kNobody},
        {.name = "certificate expired",
         .strike = [=] { certificate(-1h); },
         .mend = [=] { certificate(24h); },
         .says = "expired"},
        {.name = "token revoked", .strike = [this] { allow(false); }, .mend = [this] { allow(true); }, .says = "403"},
    };
  }

 private:
  static std::string id(int server) { return "web" + std::to_string(server); }
  void set_certificate(std::chrono::hours left) { consul_.use_tls(std::chrono::system_clock::now() + left); }
  void allow(bool yes) {
    consul_.control("PUT", "/token", {{"secret", "secret"}, {"services", yes ? Json({""}) : Json()}});
  }
  Stage& stage_;
  std::string token_;
  ConsulServer consul_;
  Servers known_ = kOlder;
};

class Eureka final : public Subject {
 public:
  explicit Eureka(Stage& stage)
      : stage_(stage),
        credentials_(stage.lab.write_file("eureka/credentials", "meshd:secret\n")),
        eureka_(
            {.folder = stage.folder("eureka"), .address = stage.registry.v4(), .spawn = stage.lab.on(stage.registry)}) {
    set_certificate(24h);
    start();
  }
  std::string body() const override {
    return fmt::format(
        "sources:\n  - type: eureka\n    eureka:\n      servers: [\"{}\"]\n      interval: 1s\n      timeout: 1s\n"
        "      default_probe: false\n      credentials_file: {}\n      tls: {{ca_file: {}}}\n"
        "      services: [{{match: orders, port: 80}}]\n",
        eureka_.url(), credentials_, eureka_.ca_file());
  }
  void set(const Servers& servers) override {
    for (const int one : servers) eureka_.add("ORDERS", id(one), stage_.ip(one), kPort);
    for (const int one : std::exchange(known_, servers)) {
      if (std::ranges::find(servers, one) == servers.end()) eureka_.remove("ORDERS", id(one));
    }
  }
  void remember() override { eureka_.control("PUT", "/save", Json::object()); }
  void stop() override { eureka_.stop(); }
  void start() override {
    std::vector<std::string> options;
    for (const int one : known_) {
      const auto more = EurekaServer::with("ORDERS", id(one), stage_.ip(one), kPort);
      options.insert(options.end(), more.begin(), more.end());
    }
    eureka_.start(options);
  }

  std::vector<Fault> faults() override {
    const auto fault = [this](Json what) { return [this, what] { eureka_.fault(what); }; };
    const auto mend = [this] { eureka_.end_faults(); };
    const auto certificate = [this](std::chrono::hours left) {
      stop();
      set_certificate(left);
      start();
    };
    return {
        {.name = "older",  // first: a restart forgets it
         .strike = [this] { eureka_.control("PUT", "/restore", Json::object()); },
         .mend =
             [this] {
               known_ = kOlder;
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }},
        hung(eureka_.process()),
        {.name = "garbage", .strike = fault({{"kind", "garbage"}}), .mend = mend},
        {.name = "slow",
         .strike =
             [this] {
               set(kOlder);
               eureka_.fault({{"kind", "slow"}, {"seconds", 2}});
             },
         .mend =
             [this, mend] {
               mend();
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "empty", .strike = fault({{"kind", "no_apps"}}), .mend = mend, .state = "synced", .during = kNobody},
        {.name = "certificate expired",
         .strike = [=] { certificate(-1h); },
         .mend = [=] { certificate(24h); },
         .says = "expired"},
        {.name = "token revoked",
         .strike = [this] { eureka_.control("PUT", "/auth", {{"user", "meshd"}, {"password", "other"}}); },
         .mend = [this] { eureka_.control("PUT", "/auth", {{"user", "meshd"}, {"password", "secret"}}); },
         .says = "401"},
    };
  }

 private:
  static std::string id(int server) { return "web" + std::to_string(server); }
  void set_certificate(std::chrono::hours left) { eureka_.use_tls(std::chrono::system_clock::now() + left); }
  Stage& stage_;
  std::string credentials_;
  EurekaServer eureka_;
  Servers known_ = kOlder;
};

class Zookeeper final : public Subject {
 public:
  explicit Zookeeper(Stage& stage)
      : stage_(stage),
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
    for (const int one : std::exchange(known_, servers)) {
      if (std::ranges::find(servers, one) == servers.end()) {
        program += fmt::format("zk.delete('/services/orders/{}')\n", one);
      }
    }
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
    const std::string only_writers = "make_digest_acl('writer', 'other', all=True)";
    return {
        {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }},
        hung(server_.process()),
        {.name = "garbage", .strike = [this] { pass("garbage"); }, .mend = [this] { pass("pass"); }},
        {.name = "slow",
         .strike =
             [this] {
               pass("slow");
               set(kOlder);
             },
         .mend =
             [this] {
               pass("pass");
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "empty",
         .strike = [this] { set(kNobody); },
         .mend = [this] { set(kNewer); },
         .state = "synced",
         .during = kNobody},
        {.name = "older",
         .strike =
             [this] {
               stop();
               fs::remove_all(folder_ + "/data");
               fs::copy(folder_ + "/older", folder_ + "/data", fs::copy_options::recursive);
               start();
             },
         .mend =
             [this] {
               known_ = kOlder;
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "certificate expired", .why_not = "the client speaks no TLS to ZooKeeper"},
        {.name = "token revoked",
         .strike = [=] { acl(only_writers); },
         .mend =
             [this] {
               server_.kazoo(
                   "zk.add_auth('digest', 'writer:other')\n"
                   "zk.set_acls('/services/orders', [make_digest_acl('reader', 'secret', all=True), "
                   "make_digest_acl('writer', 'other', all=True)])");
             },
         .says = "/services/orders"},
    };
  }

 private:
  std::string proxy() const { return stage_.registry.v4(2181); }
  std::string mode_file() const { return folder_ + "/mode"; }
  void pass(const std::string& mode) const { std::ofstream(mode_file()) << mode; }
  Stage& stage_;
  std::string folder_;
  std::string credentials_;
  ZookeeperServer server_;
  Process proxy_;
  Servers known_;
};

class Dns final : public Subject {
 public:
  explicit Dns(Stage& stage) : stage_(stage), state_(stage.folder("dns") + "/state") {
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
    return {
        {.name = "killed", .strike = [this] { stop(); }, .mend = [this] { start(); }},
        hung(server_),
        {.name = "garbage", .strike = mode("garbage"), .mend = mode("ok")},
        {.name = "slow",
         .strike =
             [this] {
               mode_ = "slow";
               set(kOlder);
             },
         .mend =
             [this] {
               mode_ = "ok";
               set(kNewer);
             },
         .state = "synced",
         .during = kOlder},
        {.name = "empty", .strike = mode("empty"), .mend = mode("ok"), .state = "synced", .during = kNobody},
        {.name = "older", .why_not = "answers have no version: an older zone is a zone"},
        {.name = "certificate expired", .why_not = "plain DNS has none"},
        {.name = "token revoked", .why_not = "plain DNS has none"},
    };
  }

 private:
  void write() const {
    std::vector<std::string> addresses;
    for (const int one : known_) addresses.push_back(stage_.ip(one));
    const std::string fresh = state_ + ".new";
    std::ofstream(fresh) << Json{{"names", {{"web.example", addresses}}}, {"ttl", 1}, {"mode", mode_}}.dump();
    fs::rename(fresh, state_);
  }
  Stage& stage_;
  std::string state_;
  std::string mode_ = "ok";
  Servers known_;
  Process server_;
};
template <typename T>
Kind kind(std::string name, std::function<std::string()> unavailable = [] { return std::string(); }) {
  return {std::move(name), std::move(unavailable), [](Stage& stage) { return std::make_unique<T>(stage); }};
}

}  // namespace

const std::vector<Kind>& registry_kinds() {
  static const std::vector<Kind> all = {kind<Dns>("dns"), kind<Kubernetes>("kubernetes"), kind<Consul>("consul"),
                                        kind<Zookeeper>("zookeeper", ZookeeperServer::unavailable),
                                        kind<Eureka>("eureka")};
  return all;
}

}  // namespace mesh::test
