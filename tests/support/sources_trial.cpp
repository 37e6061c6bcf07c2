// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sources_trial.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/support/agent.hpp"
#include "tests/support/client.hpp"
#include "tests/support/consul_double.hpp"
#include "tests/support/eureka_double.hpp"
#include "tests/support/identify_server.hpp"
#include "tests/support/kubernetes_double.hpp"
#include "tests/support/zookeeper_server.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Servers = std::vector<int>;  // "web1" is 1

constexpr auto kPatience = 40s;  // for status, and for recovery
constexpr auto kWatched = 2s;    // traffic is watched for at least so long in a fault
constexpr int kPort = 7000;
const Servers kOlder = {1, 2};  // an older state of the registry
const Servers kNewer = {2, 3};
const Servers kNobody = {};

/// Where everything of one trial is.
struct Stage {
  Lab lab;
  Host& node = lab.add_host("node");
  std::vector<Host*> webs;
  std::vector<std::unique_ptr<IdentifyServer>> servers;
  Host& registry;

  Stage() : registry(add_servers()) {}
  [[nodiscard]] std::string ip(int server) const { return webs[static_cast<std::size_t>(server - 1)]->v4(); }
  std::string folder(const std::string& name) {
    fs::create_directories(lab.folder() / name);
    return lab.folder() / name;
  }

 private:
  Host& add_servers() {
    for (const char* const name : {"web1", "web2", "web3"}) {
      webs.push_back(&lab.add_host(name));
      servers.push_back(std::make_unique<IdentifyServer>(lab, *webs.back()));
    }
    return lab.add_host("registry");
  }
};

struct Fault {
  std::string name;
  std::string why_not{};  ///< The protocol has no such thing.
  std::function<void()> strike{};
  std::function<void()> mend{};
  std::string state = "stale";  ///< What status has to say meanwhile ...
  std::string says{};           ///< ... with this in its error.
  Servers during = kNewer;      ///< Who answers meanwhile.
};

/// A registry with the service "orders".
class Subject {
 public:
  virtual ~Subject() = default;
  [[nodiscard]] virtual std::string body() const = 0;  ///< Of meshd.yaml.
  [[nodiscard]] virtual std::string service() const { return "orders"; }
  virtual void set(const Servers& servers) = 0;
  /// What is there now is the older state to return to.
  virtual void remember() {}
  virtual std::vector<Fault> faults() = 0;
  virtual void stop() = 0;
  /// After stop(), with what it had before.
  virtual void start() = 0;
};

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

struct Kind {
  std::string name;
  std::function<std::string()> unavailable;
  std::function<std::unique_ptr<Subject>(Stage&)> make;
};

template <typename T>
Kind kind(std::string name, std::function<std::string()> unavailable = [] { return std::string(); }) {
  return {std::move(name), std::move(unavailable), [](Stage& stage) { return std::make_unique<T>(stage); }};
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {kind<Dns>("dns"), kind<Kubernetes>("kubernetes"), kind<Consul>("consul"),
                                        kind<Zookeeper>("zookeeper", ZookeeperServer::unavailable),
                                        kind<Eureka>("eureka")};
  return all;
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// One source with its agent, through all faults.
class Trial {
 public:
  Trial(const Kind& kind, const std::function<void(const SourcesFinding&)>& report)
      : name_(kind.name), report_(report), subject_(kind.make(stage_)), clock_(make_clock()) {
    if (!fs::exists(shim())) throw std::runtime_error("this build has no " + shim());
    subject_->set(kOlder);
    agent_ = std::make_unique<Agent>(
        stage_.lab, stage_.node,
        AgentSpec{.body = subject_->body(), .environment = {"LD_PRELOAD=" + shim(), "MESH_CLOCK_OFFSET=" + clock_}});
    agent_->start_healthy();
    if (!eventually(kPatience, [this] { return is_answered_by(kOlder); })) {
      throw std::runtime_error(name_ + ": the service is not reached at first: " + what_answers() + "\n" +
                               agent_->log());
    }
    subject_->remember();
    subject_->set(kNewer);
    if (!eventually(kPatience, [this] { return is_answered_by(kNewer) && state() == "synced"; })) {
      throw std::runtime_error(name_ + ": a change is not seen: " + what_answers() + "\n" + agent_->log());
    }
  }

  void run() {
    for (const Fault& fault : subject_->faults()) report_(run(fault));
    report_(run(Fault{.name = "clock 10 h ahead, then 10 h back",
                      .strike = [this] { set_clock(10h); },
                      .mend = [this] { set_clock(-10h); },
                      .state = "synced"}));
    set_clock(0h);
    report_(reboot());
  }

 private:
  static std::string shim() { return std::string(MESH_BUILD_DIR) + "/tests/support/libclock_shim.so"; }
  std::string make_clock() {
    const std::string file = stage_.lab.write_file("clock", std::string(8, '\0'));
    return file;
  }
  void set_clock(std::chrono::hours hours) const {
    const std::int64_t seconds = std::chrono::seconds(hours).count();
    std::fstream file(clock_, std::ios::in | std::ios::out | std::ios::binary);
    file.write(reinterpret_cast<const char*>(&seconds), sizeof(seconds));
  }

  Json source() {
    const Output output = agent_->ctl({"sources", "-o", "json"});
    if (output.text.empty()) return Json::object();
    for (const Json& one : Json::parse(output.text)["items"]) {
      if (one["name"] == name_) return one;
    }
    return Json::object();
  }
  std::string state() { return source().value("state", ""); }

  std::map<std::string, int> answers() {
    if (address_.empty()) {
      const Output output = agent_->ctl({"services", subject_->service(), "-o", "json"});
      if (output.code != 0) return {{"no service", 1}};
      const std::string frontend = Json::parse(output.text)["items"][0]["frontend"];
      address_ = frontend.substr(0, frontend.find('/'));
    }
    return tally(call(stage_.lab.on(stage_.node, "apps"), Via::kTcp, address_, 16));
  }
  bool is_answered_by(const Servers& servers) {
    std::set<std::string> wanted;
    for (const int one : servers) wanted.insert("web" + std::to_string(one));
    const auto found = answers();
    if (wanted.empty())
      return std::ranges::all_of(found, [](const auto& one) { return one.first.starts_with("errno "); });
    return std::ranges::equal(found, wanted, {}, &std::pair<const std::string, int>::first);
  }
  std::string what_answers() {
    std::vector<std::string> names;
    for (const auto& [name, count] : answers()) names.push_back(name);
    return fmt::format("{}", fmt::join(names, " "));
  }

  SourcesFinding run(const Fault& fault) {
    SourcesFinding finding{.source = name_, .fault = fault.name, .why_not = fault.why_not};
    if (!fault.why_not.empty()) return finding;
    const bool watched = !fault.during.empty();
    std::optional<ConnectLoop> loop;
    if (watched) loop.emplace(stage_.lab.on(stage_.node, "apps"), std::vector<LoopTarget>{{Via::kTcp, address_}});
    auto begin = Clock::now();
    fault.strike();
    const bool shown = eventually(kPatience, [&] {
      const Json now = source();
      return now.value("state", "") == fault.state && now.value("error", "").contains(fault.says) &&
             is_answered_by(fault.during);
    });
    if (shown) {
      finding.shown_s = seconds_since(begin);
    } else {
      finding.faults.push_back(
          fmt::format("status says {}, not {}; {} answers", source().dump(), fault.state, what_answers()));
    }
    // Whether it stays so.
    std::this_thread::sleep_for(kWatched);
    const Json said = source();
    finding.status = said.value("state", "?");
    if (const std::string error = said.value("error", ""); !error.empty()) finding.status += ": " + error;
    if (fault.state == "stale" && said.value("error", "").empty()) finding.faults.emplace_back("stale, and no error");
    if (!is_answered_by(fault.during)) finding.faults.push_back("it did not stay so: " + what_answers() + " answers");

    begin = Clock::now();
    fault.mend();
    if (eventually(kPatience, [&] { return state() == "synced" && is_answered_by(kNewer); })) {
      finding.recovered_s = seconds_since(begin);
    } else {
      finding.faults.push_back(fmt::format("it does not recover: {}; {} answers", source().dump(), what_answers()));
    }
    if (loop) {
      const auto counts = loop->finish();
      finding.connects = counts[0].attempts;
      finding.failed = counts[0].failures;
      if (finding.failed > 0) {
        finding.faults.push_back(
            fmt::format("{} connects failed, first with {}", finding.failed, ::strerrorname_np(counts[0].first_errno)));
      }
    }
    return finding;
  }

  /// Everything in the kernel is gone, and the registry is down.
  SourcesFinding reboot() {
    SourcesFinding finding{.source = name_, .fault = "reboot with the registry down"};
    const bool saved = eventually(
        kPatience, [this] { return run_in({"grep", "-rqF", stage_.ip(kNewer.back()), agent_->state_folder()}); });
    if (!saved) finding.faults.emplace_back("the last good state is not on disk");
    agent_->kill();
    subject_->stop();
    const Output detached = agent_->meshd({"detach", "--bpffs", agent_->bpffs()});
    if (detached.code != 0) finding.faults.push_back("detach: " + detached.errors);
    if (!is_answered_by(kNobody)) finding.faults.emplace_back("the kernel still has tables: this was no reboot");
    auto begin = Clock::now();
    agent_->start();
    if (eventually(kPatience, [this] { return is_answered_by(kNewer); })) {
      finding.shown_s = seconds_since(begin);
    } else {
      finding.faults.push_back("endpoints from disk are not reached: " + what_answers());
    }
    if (!eventually(kPatience, [this] { return state() == "stale"; }))
      finding.faults.emplace_back("it is not said to be stale");
    const Json said = source();
    finding.status = said.value("state", "?") + ": " + said.value("error", "");
    begin = Clock::now();
    subject_->start();
    if (eventually(kPatience, [this] { return state() == "synced" && is_answered_by(kNewer); })) {
      finding.recovered_s = seconds_since(begin);
    } else {
      finding.faults.push_back(fmt::format("it does not recover: {}; {} answers", source().dump(), what_answers()));
    }
    return finding;
  }
  static bool run_in(const std::vector<std::string>& argv) { return mesh::test::run(argv).code == 0; }

  const std::string name_;
  const std::function<void(const SourcesFinding&)>& report_;
  Stage stage_;
  std::unique_ptr<Subject> subject_;
  std::string clock_;
  std::unique_ptr<Agent> agent_;
  std::string address_;
};

}  // namespace

std::vector<std::string> sources_on_trial() {
  std::vector<std::string> names;
  for (const Kind& one : kinds()) names.push_back(one.name);
  return names;
}

void run_sources_trial(const SourcesOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);
  for (const Kind& one : kinds()) {
    if (!options.sources.empty() && std::ranges::find(options.sources, one.name) == options.sources.end()) continue;
    if (const std::string why = one.unavailable(); !why.empty()) {
      options.report({.source = one.name, .fault = "all", .why_not = why, .skipped = true});
      continue;
    }
    Trial(one, options.report).run();
  }
}

}  // namespace mesh::test
