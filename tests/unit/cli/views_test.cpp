// SPDX-License-Identifier: Apache-2.0
// What people read, letter by letter: a change of these texts is a decision.
#include "cli/views.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "tests/support/fake_admin_backend.hpp"

namespace mesh::cli {
namespace {

class Views : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }

  test::FakeAdminBackend backend_;
  ViewOptions options_{.now = base::WallTime(std::chrono::seconds(1795176275))};  // 2026-11-20T12:04:35Z
};

TEST_F(Views, a_healthy_status_is_one_line) {
  EXPECT_EQ(status_text(backend_.status_value, options_),
            "healthy  1 endpoint down  canary ok 0.4s ago  hooks 10/10 effective  desired = kernel, compared 12s ago "
            "(2 services, 3 endpoints)  maps 0.1 %  file: synced 3.0s ago\n");
}

TEST_F(Views, status_says_on_its_line_what_gets_no_connections_and_what_was_compared) {
  api::Status status = backend_.status_value;
  const auto starts_with = [&](const std::string& start) {
    const std::string text = status_text(status, options_);
    EXPECT_EQ(text.substr(0, start.size()), start);
    return text;
  };
  status.services_refusing = 1;
  status.endpoints_down = 3;
  status.endpoints_ejected = 2;
  starts_with("healthy  1 service refuses, 3 endpoints down, 2 endpoints ejected  canary ");
  status.endpoints_down = status.endpoints_ejected = 0;
  status.services_refusing = 2;
  starts_with("healthy  2 services refuse  canary ");
  status.services_refusing = 0;
  status.apply.audited_ago_s.reset();
  const std::string text = starts_with("healthy  canary ");
  EXPECT_NE(text.find("desired = kernel as written, not compared yet (2 services"), std::string::npos) << text;
}

TEST_F(Views, a_map_without_a_fill_has_its_memory_and_no_numbers) {
  api::BpfStats stats;
  stats.stats_enabled = true;
  stats.maps = {{"events", std::nullopt, 4194304, 4210688}, {"slots", 10, 100, 4096}};
  EXPECT_EQ(stats_text(stats, options_),
            "maps\nMAP     USED     SIZE  FILL  MEMORY\nevents     -  4194304     -  4.0 MiB\n"
            "slots     10      100  10 %  4.0 KiB\n");
}

TEST_F(Views, a_degraded_status_names_the_problem_and_the_remedy) {
  api::Status status = backend_.status_value;
  status.state = "degraded";
  status.hooks[1].effective = false;
  status.canary[0].result = "failed";
  status.apply.generation_desired = 8;
  status.maps[1].used = 800'000;
  status.sources[0].state = "stale";
  status.mode = "pass_through";
  status.pass_until = "2026-11-20T12:14:31.000Z";
  status.conditions = {
      {"hook_not_effective", "degraded", "connect6 on /shop is not in effect", "see 'bpftool cgroup tree'"},
      {"config_needs_restart", "notice", "agent.cgroups changed", ""}};
  status.config.last_reload_ok = false;
  status.config.errors = {{"meshd.yaml", 6, 5, "services[0].adress", "unknown key", "did you mean address?"}};
  EXPECT_EQ(status_text(status, options_),
            "degraded  PASS-THROUGH until 12:14:31  1 endpoint down  canary FAILED 1 of 4 0.4s ago  hooks 9/10 "
            "effective  desired 8 != "
            "kernel 7 "
            "(2 services, 3 endpoints)  maps 76.3 % (slots)  file: stale, last synced 3.0s ago\n"
            "problem hook_not_effective: connect6 on /shop is not in effect\n"
            "  -> see 'bpftool cgroup tree'\n"
            "note config_needs_restart: agent.cgroups changed\n"
            "meshd.yaml:6:5: services[0].adress: unknown key; did you mean address?\n");
}

TEST_F(Views, a_dead_agent_shows_what_the_pins_know) {
  api::Status status = backend_.status_value;
  status.state = "agent_down";
  status.maps.push_back({"control", std::nullopt, 1, 4096});  // full by design, and no reason to worry
  EXPECT_EQ(status_text(status, options_),
            "agent down  last apply 12:04:28 (3.0s ago)  generation 7  hooks 10 attached  maps 0.1 %\n"
            "connects are still balanced by the pinned tables, but nothing keeps them right\n");
}

TEST_F(Views, explain_is_one_line_and_a_decision) {
  const auto view = backend_.explain({.target = "orders", .cgroup = "/system.slice/shop.service"});
  ASSERT_TRUE(view);
  EXPECT_EQ(explain_text(*view, options_),
            "orders 240.64.0.10:80/tcp (meshd.yaml:6) round_robin | 10.0.0.11:8080 100 % http 200 1.2s ago | "
            "10.0.0.12:8080 0 % down: refused x3 since 12:04:31\n"
            "  balanced: 1 of 2 endpoints gets new connections, next 10.0.0.11:8080\n");
  auto many = *view;
  many.results[0].endpoints.resize(4, many.results[0].endpoints[0]);
  many.from_attached = false;
  EXPECT_EQ(
      explain_text(many, options_),
      "orders 240.64.0.10:80/tcp (meshd.yaml:6) round_robin\n"
      "  10.0.0.11:8080 100 % http 200 1.2s ago\n"
      "  10.0.0.12:8080 0 % down: refused x3 since 12:04:31\n"
      "  10.0.0.11:8080 100 % http 200 1.2s ago\n"
      "  10.0.0.11:8080 100 % http 200 1.2s ago\n"
      "  balanced: 1 of 2 endpoints gets new connections, next 10.0.0.11:8080\n"
      "note: no hook covers /system.slice/shop.service: its connects go untouched; add it, or a cgroup above it, to "
      "agent.cgroups\n");
}

TEST_F(Views, tables_align_and_numbers_stand_right) {
  EXPECT_EQ(
      services_text({.items = backend_.service_values}, options_),
      "SERVICE  FRONTEND              BALANCE      ENDPOINTS  STATE  PROBE                   CONNECTS  REFUSED\n"
      "orders   240.64.0.10:80/tcp    round_robin  1/2        ok     http /healthz every 5s       120        2\n"
      "cache    240.64.0.11:6379/tcp  maglev       1/1        ok     -                              0        0\n");
  EXPECT_EQ(endpoints_text({.items = backend_.endpoint_values}, options_),
            "SERVICE  ENDPOINT        WEIGHT  SHARE  STATE       HEALTH                           PICKS\n"
            "orders   10.0.0.11:8080       2  100 %  eligible    http 200 1.2s ago                  120\n"
            "orders   10.0.0.12:8080       1    0 %  probe_down  down: refused x3 since 12:04:31     60\n"
            "cache    10.0.0.13:6379       1  100 %  eligible    not probed                           0\n");
  EXPECT_EQ(sources_text({backend_.status_value.sources, {{"240.64.0.10:80/tcp", "a (x:1)", "b (y:2)"}}}, options_),
            "SOURCE  STATE   SYNCED    SERVICES  ENDPOINTS  ERROR\n"
            "file    synced  3.0s ago         2          3  -\n"
            "conflict 240.64.0.10:80/tcp: a (x:1) is used, b (y:2) is not\n");
}

TEST_F(Views, wide_sources_say_what_was_refused_by_whom) {
  options_.wide = true;
  api::SourceList list;
  EXPECT_FALSE(sources_text(list, options_).contains("REFUSED"));
  list.items = {{.name = "xds",
                 .refusals = {{.what = "endpoints",
                               .version = "7",
                               .why = "'orders': no port",
                               .at = "2026-11-20T12:04:05Z",
                               .times = 3}}}};
  list.client_refusals = {{.client = "envoy-1",
                           .what = "clusters",
                           .version = "9",
                           .why = "odd\x1b",
                           .at = "2026-11-20T12:04:31Z",
                           .times = 1}};
  const std::string text = sources_text(list, options_);
  EXPECT_TRUE(
      text.ends_with("\nREFUSED BY  SAID BY  LAST      TIMES  WHAT       VERSION  WHY\n"
                     "meshd       xds      12:04:05      3  endpoints        7  'orders': no port\n"
                     "envoy-1     meshd    12:04:31      1  clusters         9  odd?\n"))
      << text;
}

TEST_F(Views, certificates_say_when_they_expire_and_what_is_wrong) {
  const api::CertificateList list{
      {{"shop",
        {{.file = "/c/shop.crt", .names = {"shop.test", "10.0.0.1"}, .key = "RSA 2048", .expires_in_s = 90 * 86400.0},
         {.file = "/c/old.crt", .names = {"old.test"}, .key = "EC prime256v1", .expires_in_s = -7200.0},
         {.file = "/c/new.crt", .error = "open /c/new.key: Permission denied"}}}}};
  EXPECT_EQ(certificates_text(list, options_),
            "LISTENER  NAMES               KEY            EXPIRES           ERROR\n"
            "shop      shop.test,10.0.0.1  RSA 2048       in 90d0h          -\n"
            "shop      old.test            EC prime256v1  expired 2h0m ago  -\n"
            "shop      -                   -              -                 open /c/new.key: Permission denied\n");
}

TEST_F(Views, certificates_that_are_fetched_say_when_next_and_what_went_wrong) {
  api::CertificateList list{.acme = {.wanted = true, .issuer_node = "edge-1"}};
  EXPECT_TRUE(certificates_text(list, options_).ends_with("\nACME: edge-1 fetches the certificates\n"));
  list.acme.fetches = true;
  list.acme.certificates = {
      {.name = "shop", .names = {"shop.test"}, .issuer = "CN=ca", .expires_in_s = 86400.0, .next_in_s = 3600.0},
      {.name = "cart", .names = {"cart.test"}, .next_in_s = 60.0, .error = "prove cart.test: refused"}};
  list.acme.error = "listen on [::]:80: Address already in use";
  EXPECT_TRUE(certificates_text(list, options_)
                  .ends_with("ACME  NAMES      ISSUER  EXPIRES   NEXT      LAST ERROR\n"
                             "shop  shop.test  CN=ca   in 24h0m  in 60m0s  -\n"
                             "cart  cart.test  -       -         in 60s    prove cart.test: refused\n"
                             "nothing is fetched: listen on [::]:80: Address already in use\n"))
      << certificates_text(list, options_);
}

TEST_F(Views, an_ejected_endpoint_says_until_when_and_why) {
  api::EndpointView endpoint = backend_.endpoint_values[2];
  endpoint.eligibility = endpoint.ejection = "ejected";
  endpoint.ejected_until = "2026-11-20T12:05:05Z";
  endpoint.standing = "5 connections in a row failed (refused)";
  EXPECT_EQ(health_text(endpoint, options_.now), "until 12:05:05: 5 connections in a row failed (refused); not probed");
  endpoint.eligibility = "eligible";
  endpoint.ejection = "probation";
  endpoint.weight_percent = 10;
  EXPECT_EQ(health_text(endpoint, options_.now),
            "on probation at 10 %: 5 connections in a row failed (refused); not probed");
}

TEST_F(Views, check_shows_each_line_with_its_remedy) {
  const api::CheckReport report{{{"kernel", "version", "ok", "6.18", ""},
                                 {"kernel", "btf", "ok", "present", ""},
                                 {"cgroup", "cgroup2", "fail", "not mounted", "mount -t cgroup2 none /sys/fs/cgroup"}}};
  EXPECT_EQ(check_text(report, options_),
            "kernel\n  ok    version  6.18\n  ok    btf      present\ncgroup\n  fail  cgroup2  not mounted\n"
            "        -> mount -t cgroup2 none /sys/fs/cgroup\n2 ok, 0 warnings, 1 failure\n");
}

TEST_F(Views, diff_names_what_differs) {
  EXPECT_EQ(diff_text(backend_.diff_value, options_), "in sync  generation 7, 42 entries compared\n");
  const api::BpfDiff drift{false, 7, 42, 3, {{"slots", "64", "backend 1", "backend 2"}, {"frontends", "x", "", "1"}}};
  EXPECT_EQ(diff_text(drift, options_),
            "DRIFT  3 differences in 42 entries, generation 7\n"
            "TABLE      KEY  WANT       HAVE\n"
            "slots      64   backend 1  backend 2\n"
            "frontends  x    -          1\n"
            "... and 1 more\n");
}

TEST_F(Views, a_terminal_never_sees_control_characters_of_others) {
  api::EndpointList list{.items = backend_.endpoint_values};
  list.items[0].detail = "http \033]0;owned\a 200\r\n\xe2\x80\xae";
  const std::string text = endpoints_text(list, options_);
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_NE(text.find("http ?]0;owned? 200???"), std::string::npos) << text;
}

TEST_F(Views, wide_shows_every_hook_and_map) {
  options_.wide = true;
  const std::string text = status_text(backend_.status_value, options_);
  for (const char* part : {"sock_release", "io_uring: available", "udp6", "8.0 MiB", "/etc/meshd/meshd.yaml"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace mesh::cli
