// SPDX-License-Identifier: Apache-2.0
// Services from DNS: a real meshd against knot, whose zone changes while it is in use, and against dnsmasq.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "tests/support/agent_test.hpp"

namespace mesh::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

#define NEED_PROGRAM(name) \
  if (!have_program(name)) GTEST_SKIP() << name << " is not installed (scripts/setup --interop)"

class DnsSourceTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(3);
    dns_ = &lab_->add_host("dns");
  }

  /// One zone, "example", with these records; the agent's questions go to it.
  void start_knot(const std::string& records) {
    const fs::path folder = lab_->folder() / "knot";
    fs::create_directories(folder);
    std::ofstream(folder / "example.zone")
        << "$ORIGIN example.\n$TTL 1\n@ SOA ns admin 1 60 60 60 1\n@ NS ns\nns A " << dns_->v4() << "\n"
        << records;
    std::ofstream(folder / "knot.conf") << fmt::format(
        "server:\n    rundir: {0}\n    listen: [{1}@53]\n"
        "database:\n    storage: {0}\n"
        "log:\n  - target: stderr\n    any: warning\n"
        "acl:\n  - id: update\n    address: [{1}]\n    action: update\n"
        "zone:\n  - domain: example\n    storage: {0}\n    file: example.zone\n    zonefile-sync: -1\n"
        "    zonefile-load: difference-no-serial\n    journal-content: all\n    acl: update\n",
        folder.string(), dns_->v4());
    run_knot();
  }
  void run_knot() {
    knot_ = Process::start(lab_->on(*dns_, "servers", "knot.log"),
                           {"knotd", "-c", (lab_->folder() / "knot/knot.conf").string()});
    ASSERT_TRUE(eventually(seconds(20), [&] {
      return run({"dig", "+short", "+time=1", "+tries=1", "@" + dns_->v4(), "example", "SOA"}, lab_->on(*dns_)).text !=
             "";
    })) << "knot does not answer";
  }
  /// nsupdate lines: "del name type", "add name ttl type data".
  void update(const std::string& lines) {
    const std::string file =
        lab_->write_file("update", "server " + dns_->v4() + "\nzone example\norigin example\n" + lines + "send\n");
    must_run({"knsupdate", file}, lab_->on(*dns_));
  }

  std::string source(const std::string& services, const std::string& more = "") {
    return fmt::format(
        "sources:\n  - type: dns\n    name: zone\n{}    dns:\n      servers: [\"{}\"]\n      ttl_floor: 1s\n"
        "      timeout: 300ms\n      tries: 1\n      services:\n{}",
        more, dns_->v4(), services);
  }
  std::string on(std::size_t server) { return hosts_[server]->v4(7000); }
  Json source_status() { return agent_->json({"sources"})["items"].back(); }
  /// The endpoints of a service, as "ADDRESS*WEIGHT@TIER ".
  std::string endpoints_of(const std::string& service) {
    std::string text;
    const Output output = agent_->ctl({"endpoints", service, "-o", "json"});
    if (output.code != 0) return "no service";
    for (const Json& item : Json::parse(output.text)["items"]) {
      text += fmt::format("{}*{}@{} ", item["address"].get<std::string>(), item["weight"].get<int>(),
                          item["tier"].get<int>());
    }
    return text;
  }
  void expect_endpoints(const std::string& service, const std::string& wanted) {
    EXPECT_TRUE(eventually(seconds(15), [&] { return endpoints_of(service) == wanted; }))
        << service << " has " << endpoints_of(service) << ", not " << wanted << "\n"
        << agent_->ctl({"sources", "-o", "yaml"}).text;
  }
  std::string vip(const std::string& service) {
    const std::string frontend = agent_->json({"services", service})["items"][0]["frontend"];
    return frontend.substr(0, frontend.find('/'));
  }
  /// Who answers calls to the service's own address.
  std::map<std::string, int> answers(const std::string& service, int calls = 12) {
    return tally(call(app(), Via::kTcp, vip(service), calls));
  }

  Host* dns_ = nullptr;
  Process knot_;
};

TEST_F(DnsSourceTest, addresses_follow_the_zone_and_an_outage_removes_nothing) {
  NEED_PROGRAM("knotd");
  NEED_PROGRAM("knsupdate");
  start_knot(fmt::format("web A {}\nweb A {}\nalias CNAME web\n", hosts_[0]->v4(), hosts_[1]->v4()));
  start_agent({.body = source("        - {name: web, host: web.example, port: 7000}\n"
                              "        - {name: alias, host: alias.example, port: 80, endpoint_port: 7000}\n")});
  expect_endpoints("web", fmt::format("{}*1@0 {}*1@0 ", on(0), on(1)));
  expect_endpoints("alias", fmt::format("{}*1@0 {}*1@0 ", on(0), on(1)));
  EXPECT_EQ(source_status()["state"], "synced");
  EXPECT_EQ(source_status()["type"], "dns");
  const std::string address = vip("alias");
  EXPECT_TRUE(address.starts_with("240.") && address.ends_with(":80")) << address;
  const auto first = answers("alias", 40);
  EXPECT_EQ(first.count("web1") + first.count("web2"), 2U);
  EXPECT_EQ(first.size(), 2U) << "and nothing failed";

  const auto routes = [&] { return run({"ip", "route", "show", "type", "unreachable"}, lab_->on(*node_)).text; };
  EXPECT_NE(routes().find("240.64.0.0/12"), std::string::npos) << routes();
  EXPECT_EQ(call(lab_->on(*node_, "others"), Via::kTcp, address, 1)[0].errnum, EHOSTUNREACH) << "outside of the mesh";

  update(fmt::format("add web 1 A {}\ndel web A {}\n", hosts_[2]->v4(), hosts_[0]->v4()));
  expect_endpoints("web", fmt::format("{}*1@0 {}*1@0 ", on(1), on(2)));
  EXPECT_EQ(answers("web").count("web1"), 0U);

  knot_.kill();
  EXPECT_TRUE(eventually(seconds(15), [&] { return source_status()["state"] == "stale"; }));
  EXPECT_EQ(answers("web").count("web2") + answers("web").count("web3"), 2U) << "what was known goes on";
  const Output explained = agent_->ctl({"explain", "web"});
  EXPECT_NE(explained.text.find("said by zone (web.example): stale"), std::string::npos) << explained.text;
  EXPECT_NE(explained.text.find("only endpoints whose probe succeeds"), std::string::npos) << explained.text;

  // A restart of the agent with every resolver down starts with what is on disk, at the same addresses.
  ASSERT_TRUE(eventually(seconds(15), [&] { return !agent_->json({"status"})["saved_state"]["saved_at"].empty(); }));
  ASSERT_TRUE(agent_->terminate());
  agent_->start();
  ASSERT_TRUE(
      eventually(seconds(15), [&] { return endpoints_of("web") == fmt::format("{}*1@0 {}*1@0 ", on(1), on(2)); }));
  EXPECT_EQ(vip("alias"), address);
  EXPECT_EQ(answers("web").size(), 2U);

  run_knot();
  EXPECT_TRUE(eventually(seconds(30), [&] { return source_status()["state"] == "synced"; }))
      << agent_->ctl({"sources", "-o", "yaml"}).text;
  EXPECT_EQ(agent_->ctl({"detach", "--yes"}).code, 0);
  EXPECT_EQ(routes(), "");
}

TEST_F(DnsSourceTest, srv_records_are_tiers_and_weights_and_many_of_them_come_by_tcp) {
  NEED_PROGRAM("knotd");
  NEED_PROGRAM("knsupdate");
  std::string records = fmt::format("a A {}\nb A {}\nc A {}\n", hosts_[0]->v4(), hosts_[1]->v4(), hosts_[2]->v4());
  records += "_web._tcp SRV 10 60 7000 a\n_web._tcp SRV 10 40 7000 b\n_web._tcp SRV 20 1 7000 c\n";
  for (int i = 0; i < 80; ++i) records += fmt::format("_many._tcp SRV 10 1 {} a\n", 20000 + i);
  start_knot(records);
  start_agent({.body = source("        - {name: web, srv: _web._tcp.example, port: 80}\n"
                              "        - {name: many, srv: _many._tcp.example, port: 81}\n")});
  expect_endpoints("web", fmt::format("{}*6000@0 {}*4000@0 {}*100@1 ", on(0), on(1), on(2)));
  const auto spread = answers("web", 200);
  EXPECT_EQ(spread.count("web3"), 0U) << "the second tier is not needed";
  EXPECT_GT(spread.at("web1"), spread.at("web2"));
  EXPECT_TRUE(eventually(seconds(15), [&] { return agent_->json({"endpoints", "many"})["items"].size() == 80; }))
      << "the answer does not fit a datagram";

  update("del _web._tcp SRV 10 60 7000 a\ndel _web._tcp SRV 10 40 7000 b\n");
  expect_endpoints("web", fmt::format("{}*100@0 ", on(2)));
  EXPECT_EQ(answers("web").at("web3"), 12);
  update("del _web._tcp SRV\nadd _web._tcp 1 SRV 0 0 0 .\n");
  expect_endpoints("web", "");
  update("del _web._tcp SRV\n");  // no such name: believed when it was said twice
  expect_endpoints("web", "");
  update("add _web._tcp 1 SRV 0 1 7000 b\n");
  expect_endpoints("web", fmt::format("{}*100@0 ", on(1)));
}

TEST_F(DnsSourceTest, after_max_stale_only_endpoints_whose_probe_succeeds_are_used) {
  NEED_PROGRAM("knotd");
  start_knot(fmt::format("web A {}\nweb A {}\n", hosts_[0]->v4(), hosts_[1]->v4()));
  start_agent({.body = source("        - {name: web, host: web.example, port: 7000}\n", "    max_stale: 10s\n")});
  expect_endpoints("web", fmt::format("{}*1@0 {}*1@0 ", on(0), on(1)));
  EXPECT_EQ(agent_->json({"services", "web"})["items"][0]["probe"], "") << "nobody asked for probes";
  knot_.kill();
  servers_[0]->kill();
  EXPECT_TRUE(eventually(seconds(30), [&] { return source_status()["only_confirmed"] == true; }));
  EXPECT_TRUE(eventually(seconds(10), [&] { return agent_->share("web", on(0)) == 0; }));
  const auto confirmed = answers("web");
  EXPECT_EQ(confirmed.size(), 1U);
  EXPECT_EQ(confirmed.count("web2"), 1U);
  const Output explained = agent_->ctl({"explain", "web"});
  EXPECT_NE(explained.text.find("longer than max_stale"), std::string::npos) << explained.text;
  run_knot();
  EXPECT_TRUE(eventually(seconds(60), [&] { return source_status()["only_confirmed"] == false; }));
  EXPECT_EQ(source_status()["state"], "synced");
}

TEST_F(DnsSourceTest, sources_are_added_changed_and_removed_by_a_reload_and_one_that_hangs_delays_nobody) {
  NEED_PROGRAM("knotd");
  start_knot(fmt::format("web A {}\n", hosts_[0]->v4()));
  const std::string files = "services:\n  - {name: plain, address: 240.64.0.9:80, endpoints: [\"" + on(2) + "\"]}\n";
  start_agent({.body = files});
  Host& silent = lab_->add_host("silent");
  silent.black_hole(*node_);
  const std::string zone = source("        - {name: web, host: web.example, port: 7000}\n");
  const std::string hanging = fmt::format(
      "  - {{type: dns, name: hung, dns: {{servers: [{}], services: [{{name: other, host: web.example, port: "
      "7000}}]}}}}\n",
      silent.v4());
  agent_->reconfigure(files + zone + hanging);
  expect_endpoints("web", on(0) + "*1@0 ");
  EXPECT_EQ(agent_->json({"sources"})["items"].size(), 3U);
  EXPECT_TRUE(eventually(seconds(20), [&] { return source_status()["state"] == "failed"; }));
  EXPECT_EQ(source_status()["errors_by_kind"][0]["kind"], "timeout");

  agent_->reconfigure(files + source("        - {name: web, host: web.example, port: 80, endpoint_port: 7000}\n"));
  EXPECT_TRUE(eventually(seconds(10), [&] { return vip("web").ends_with(":80"); }));
  agent_->reconfigure(files);
  expect_endpoints("web", "no service");
  EXPECT_EQ(endpoints_of("plain"), on(2) + "*1@0 ");
  EXPECT_TRUE(agent_->terminate()) << "within its time, whatever a source waits for";
}

TEST_F(DnsSourceTest, a_second_source_is_a_failover_or_a_conflict) {
  NEED_PROGRAM("knotd");
  start_knot(fmt::format("web A {}\n", hosts_[1]->v4()));
  const auto body = [&](const std::string& combine) {
    return fmt::format(
               "services:\n  - {{name: web, address: 240.64.0.9:80, probe: {{type: tcp, interval: 300ms, timeout: "
               "200ms, fall: 1}}, endpoints: [\"{}\"]}}\n",
               on(0)) +
           source("        - {name: web, host: web.example, endpoint_port: 7000, address: \"240.64.0.9:80\"}\n",
                  "    combine: " + combine + "\n");
  };
  start_agent({.body = body("failover")});
  expect_endpoints("web", fmt::format("{}*1@0 {}*1@1 ", on(0), on(1)));
  EXPECT_EQ(answers("web").at("web1"), 12);
  servers_[0]->kill();
  EXPECT_TRUE(eventually(seconds(10), [&] { return answers("web", 1).contains("web2"); }));
  agent_->reconfigure(body("ignore"));
  expect_endpoints("web", on(0) + "*1@0 ");
  EXPECT_EQ(agent_->json({"sources"})["conflicts"].size(), 1U);
}

TEST_F(DnsSourceTest, dnsmasq_by_resolv_conf_which_changes) {
  NEED_PROGRAM("dnsmasq");
  Host& second = lab_->add_host("dns2");
  const auto start = [&](const Host& host, const std::string& address) {
    return Process::start(lab_->on(host, "servers", "dnsmasq-" + host.name() + ".log"),
                          {"dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--no-daemon", "--user=root",
                           "--listen-address=" + host.v4(), "--bind-interfaces", "--local-ttl=1",
                           "--host-record=web.example," + address});
  };
  Process first = start(*dns_, hosts_[0]->v4());
  Process other = start(second, hosts_[1]->v4());
  const std::string file = lab_->write_file("resolv.conf", "nameserver " + dns_->v4() + "\n");
  start_agent({.body = fmt::format("sources:\n  - type: dns\n    dns:\n      resolv_conf: {}\n      ttl_floor: 1s\n"
                                   "      services: [{{name: web, host: web.example, port: 7000}}]\n",
                                   file)});
  expect_endpoints("web", on(0) + "*1@0 ");
  lab_->write_file("resolv.conf", "nameserver " + second.v4() + "\n");
  expect_endpoints("web", on(1) + "*1@0 ");
  lab_->write_file("resolv.conf", "nameserver " + dns_->v4() + "\nnameserver " + second.v4() + "\n");
  expect_endpoints("web", on(0) + "*1@0 ");
  first.kill();
  expect_endpoints("web", on(1) + "*1@0 ");
}

}  // namespace
}  // namespace mesh::test
