// SPDX-License-Identifier: Apache-2.0
#include "app/admin_routes.hpp"

#include <gtest/gtest.h>

#include "tests/support/fake_admin_backend.hpp"

namespace mesh::app {
namespace {

constexpr Caller kRoot{.access = Access::kChange, .uid = 0, .pid = 1};
constexpr Caller kGroup{.access = Access::kRead, .uid = 1000, .pid = 2};
constexpr Caller kTcp{.access = Access::kObserve};
constexpr Caller kNobody{.access = Access::kNone, .uid = 65534, .pid = 3};

class AdminRoutes : public ::testing::Test {
 protected:
  AdminResponse call(const Caller& caller, std::string_view method, std::string_view target,
                     std::string_view body = "") {
    AdminResponse got{.status = 0};
    answer(backend_, caller, {method, target, body}, [&](AdminResponse response) { got = std::move(response); });
    return got;
  }

  api::ErrorView error(const AdminResponse& response) {
    const auto view = api::decode<api::ErrorView>(response.body);
    EXPECT_TRUE(view) << response.body;
    return view.value_or(api::ErrorView{});
  }

  test::FakeAdminBackend backend_;
};

TEST_F(AdminRoutes, every_read_answers_a_document_of_its_kind) {
  const std::pair<const char*, const char*> reads[] = {
      {"/v1/version", "Version"},      {"/v1/status", "Status"},          {"/v1/sources", "SourceList"},
      {"/v1/services", "ServiceList"}, {"/v1/endpoints", "EndpointList"}, {"/v1/explain?target=orders", "Explain"},
      {"/v1/bpf/dump", "BpfDump"},     {"/v1/bpf/diff", "BpfDiff"},       {"/v1/bpf/stats", "BpfStats"},
      {"/v1/config", "Config"},        {"/v1/drains", "DrainList"},       {"/v1/log", "Log"}};
  for (const auto& [target, kind] : reads) {
    for (const char* method : {"GET", "HEAD"}) {
      const auto response = call(kGroup, method, target);
      EXPECT_EQ(response.status, 200) << target;
      const auto json = api::detail::parse(response.body);
      ASSERT_TRUE(json) << target;
      EXPECT_EQ((*json)["kind"], kind);
      EXPECT_EQ((*json)["apiVersion"], "meshd/v1");
    }
  }
}

TEST_F(AdminRoutes, only_root_may_change) {
  const std::pair<const char*, const char*> changes[] = {
      {"/v1/pause", R"({"all":true,"seconds":60})"},
      {"/v1/resume", R"({"all":true})"},
      {"/v1/reload", ""},
      {"/v1/detach", "{}"},
      {"/v1/drain", R"({"service":"orders","endpoint":"10.0.0.11:8080"})"},
      {"/v1/log", R"({"level":"debug"})"}};
  for (const auto& [path, body] : changes) {
    for (const Caller& caller : {kGroup, kTcp, kNobody}) {
      const auto response = call(caller, "POST", path, body);
      EXPECT_EQ(response.status, 403) << path;
      EXPECT_FALSE(error(response).remedy.empty());
    }
    EXPECT_TRUE(backend_.changes.empty()) << path;
    EXPECT_EQ(call(kRoot, "POST", path, body).status, 200) << path;
    backend_.changes.clear();
  }
}

TEST_F(AdminRoutes, a_typing_error_in_a_change_does_not_widen_it) {
  const std::pair<const char*, const char*> wrong[] = {
      {"/v1/pause", R"({"sevice":"orders","seconds":5})"},
      {"/v1/pause", R"({"seconds":5})"},
      {"/v1/pause", R"({"service":"","seconds":5})"},
      {"/v1/pause", R"({"service":"orders","all":true,"seconds":5})"},
      {"/v1/pause", R"({"service":"orders"})"},
      {"/v1/pause", R"({"all":true})"},
      {"/v1/pause", R"({"all":false,"seconds":5})"},
      {"/v1/pause", ""},
      {"/v1/resume", ""},
      {"/v1/resume", R"({"service":"orders","seconds":5})"},
      {"/v1/drain", R"({"service":"orders","endpoint":"10.0.0.11:8080","timout":"never"})"},
      {"/v1/reload", R"({"path":"/etc/other.yaml"})"},
      {"/v1/detach", R"({"cgroup":"/shop"})"},
      {"/v1/log", R"({"level":"debug","for":"1h"})"}};
  for (const auto& [path, body] : wrong) {
    const auto response = call(kRoot, "POST", path, body);
    EXPECT_EQ(response.status, 400) << path << ' ' << body;
    EXPECT_FALSE(error(response).remedy.empty()) << path << ' ' << body;
  }
  EXPECT_TRUE(backend_.changes.empty());
}

TEST_F(AdminRoutes, the_tcp_listener_shows_metrics_and_health_and_nothing_else) {
  for (const char* path : {"/metrics", "/livez", "/readyz"}) EXPECT_EQ(call(kTcp, "GET", path).status, 200) << path;
  for (const char* path : {"/v1/status", "/v1/services", "/v1/config"}) EXPECT_EQ(call(kTcp, "GET", path).status, 403);
  EXPECT_EQ(call(kNobody, "GET", "/metrics").status, 403);
}

TEST_F(AdminRoutes, readiness_says_what_is_not_ready) {
  EXPECT_EQ(call(kTcp, "GET", "/readyz").body, "ready\n");
  EXPECT_EQ(call(kTcp, "GET", "/readyz?verbose").body,
            "[+] hooks ok: 10/10 effective\n[+] sources ok: file synced\nready\n");
  backend_.ready_value = {false, {{"hooks", true, ""}, {"canary", false, "tcp4 failed in /shop"}}};
  const auto response = call(kTcp, "GET", "/readyz");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.body, "[-] canary not ok: tcp4 failed in /shop\nnot ready\n");
  EXPECT_EQ(call(kTcp, "GET", "/livez").status, 200) << "liveness never depends on anything";
}

TEST_F(AdminRoutes, wrong_requests_say_what_is_wrong) {
  EXPECT_EQ(call(kRoot, "GET", "/v2/status").status, 404);
  EXPECT_EQ(call(kRoot, "GET", "").status, 404);
  const auto method = call(kRoot, "DELETE", "/v1/log");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.allow, "GET, POST");
  EXPECT_EQ(call(kRoot, "GET", "/v1/pause").status, 405);
  EXPECT_EQ(error(call(kRoot, "GET", "/v1/services?servce=orders")).remedy, "known are: service, after, limit");
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?limit=many").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?limit=1001").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?service=a&service=b").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?service=%zz").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?service=%0").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/services?service=none").status, 404);
  EXPECT_EQ(call(kRoot, "GET", "/v1/explain").status, 400);
  EXPECT_EQ(call(kRoot, "GET", "/v1/bpf/dump?table=x").status, 400);
  EXPECT_EQ(call(kRoot, "POST", "/v1/pause", "{").status, 400);
  EXPECT_EQ(call(kRoot, "POST", "/v1/pause", R"({"all":true,"seconds":0})").status, 400);
  EXPECT_EQ(call(kRoot, "POST", "/v1/pause", R"({"all":true,"seconds":604801})").status, 400);
  EXPECT_EQ(call(kRoot, "POST", "/v1/pause", R"({"all":true,"seconds":"10m"})").status, 400);
}

TEST_F(AdminRoutes, the_query_arrives_decoded) {
  call(kGroup, "GET", "/v1/explain?target=orders&cgroup=%2Fa+b&cgroup_id=18446744073709551615&uid=0&netns_cookie=4");
  ASSERT_EQ(backend_.explain_requests.size(), 1U);
  const auto& request = backend_.explain_requests[0];
  EXPECT_EQ(request.cgroup, "/a b");
  EXPECT_EQ(request.cgroup_id, ~0ULL);
  EXPECT_EQ(request.netns_cookie, 4U);
  EXPECT_EQ(request.uid, 0U);
}

TEST_F(AdminRoutes, pages_follow_each_other) {
  const auto first = api::decode<api::EndpointList>(call(kGroup, "GET", "/v1/endpoints?limit=2").body);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->items.size(), 2U);
  EXPECT_EQ(first->total, 3U);
  const auto second =
      api::decode<api::EndpointList>(call(kGroup, "GET", "/v1/endpoints?limit=2&after=" + first->next).body);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->items.size(), 1U);
  EXPECT_EQ(second->next, "");
}

}  // namespace
}  // namespace mesh::app
