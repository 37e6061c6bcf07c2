// SPDX-License-Identifier: Apache-2.0
#include "api/codec.hpp"

#include <gtest/gtest.h>

#include "api/bpf.hpp"
#include "api/control.hpp"
#include "api/services.hpp"
#include "api/status.hpp"

namespace mesh::api {
namespace {

template <typename T>
void expect_round_trip(const T& value) {
  const std::string text = encode(value);
  const auto decoded = decode<T>(text);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_EQ(encode(*decoded), text);
  EXPECT_EQ(text.find(R"({"apiVersion":"meshd/v1","kind":")" + std::string(T::kKind) + '"'), 0U) << text;
}

TEST(Codec, every_document_survives_a_round_trip) {
  Status status{.state = "degraded", .conditions = {{"map_full", "degraded", "slots full", "raise it"}}, .pid = 7};
  status.hooks = {{"/a", "connect4", 12, 1.5, true, true, ""}, {"/a", "connect6", 0, {}, false, {}, "gone"}};
  status.config.errors = {{"meshd.yaml", 3, 7, "services[0].probe", "unknown key", "probe"}};
  expect_round_trip(status);
  expect_round_trip(SourceList{{{"file", "synced"}}, {{"f", "w", "l"}}});
  expect_round_trip(ReadyView{true, {{"hooks", true, "10/10"}}});
  expect_round_trip(ServiceList{1, "x", {{.name = "orders", .counters = {.connects = ~0ULL}}}});
  expect_round_trip(EndpointList{1, "", {{.service = "orders", .share = 0.25, .checked_ago_s = 1.25}}});
  expect_round_trip(ExplainView{"orders", "/a", true, {{.decision = "balanced", .service = ServiceView{.name = "o"}}}});
  expect_round_trip(BpfDump{.frontends = {{"240.64.0.10:80/tcp", 1}}, .slots = {{1, 2, 0xffffffff}}});
  expect_round_trip(BpfDiff{false, 3, 10, 1, {{"slots", "4", "1", "2"}}});
  expect_round_trip(BpfStats{true, {{.name = "mesh_connect4", .runs = 3}}, {{"no_backend", "none", 2}}, {}});
  expect_round_trip(PauseRequest{"orders", false, 600});
  expect_round_trip(ResumeRequest{"", true});
  expect_round_trip(PauseView{{{"mesh", "2026-11-20T12:00:00.000Z"}}});
  expect_round_trip(ReloadView{false, {{"f", 1, 2, "k", "m", "s"}}, {"agent.cgroups"}, 1, 2});
  expect_round_trip(DetachView{{"link/connect4"}, {"x: busy"}});
  expect_round_trip(ConfigView{"/etc/meshd/meshd.yaml", {"a"}, Json{{"agent", {{"cgroups", {"/"}}}}}});
  expect_round_trip(ValidateView{true, "p", {}, {}, 1, 2, 3, 0});
  expect_round_trip(CheckReport{{{"kernel", "btf", "ok", "present", ""}}});
  expect_round_trip(EstimateView{10, 10, "maglev", {{"slots", "agent.limits.slots", 5, 6, 7}}, "a note", 8, 9});
  expect_round_trip(ErrorView{"not_found", "m", "r"});
  expect_round_trip(VersionView{"0.1.0", "abc", "clang", "1.0"});
  expect_round_trip(LogView{"debug"});
}

TEST(Codec, unknown_and_absent_keys_of_an_answer_are_no_error) {
  const auto answer = decode<ValidateView>(R"({"from_the_future":[1,2],"path":null,"services":3})");
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->path, "");
  EXPECT_EQ(answer->services, 3U);
}

TEST(Codec, an_unknown_key_of_a_request_is_an_error_that_names_it_and_the_known_ones) {
  const auto request = decode_request<PauseRequest>(
      R"({"apiVersion":"meshd/v1","kind":"PauseRequest","service":"orders","seconds":60})");
  ASSERT_TRUE(request) << request.error().to_string();
  EXPECT_EQ(request->service, "orders");
  EXPECT_TRUE(decode_request<EmptyRequest>(""));
  const auto typo = decode_request<PauseRequest>(R"({"sevice":"a","seconds":5})");
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().message, "decode PauseRequest: unknown key 'sevice'");
  EXPECT_EQ(typo.error().remedy, "known are: service, all, seconds");
  EXPECT_EQ(decode_request<EmptyRequest>(R"({"cgroup":"/a"})").error().remedy, "this request takes none");
}

TEST(Codec, a_wrong_type_names_its_path) {
  const auto wrong = [](const char* text) { return decode<Status>(text).error().message; };
  EXPECT_EQ(wrong(R"({"hooks":[{},{"program_id":"x"}]})"),
            "decode Status: hooks[1].program_id: expected a whole number");
  EXPECT_EQ(wrong(R"({"hooks":[{"program_id":4294967296}]})"),
            "decode Status: hooks[0].program_id: expected a number in range");
  EXPECT_EQ(wrong(R"({"hooks":{}})"), "decode Status: hooks: expected a list");
  EXPECT_EQ(wrong(R"({"apply":1})"), "decode Status: apply: expected an object");
  EXPECT_EQ(wrong(R"([])"), "decode Status: expected an object");
  EXPECT_EQ(wrong(R"({"kind":"Check"})"), "decode Status: has kind \"Check\", not Status");
  EXPECT_EQ(wrong(R"({"apiVersion":"meshd/v2"})"), "decode Status: has apiVersion \"meshd/v2\", not meshd/v1");
  EXPECT_EQ(wrong("{"), "parse JSON: syntax error");
}

TEST(Codec, bytes_that_are_not_utf8_do_not_break_the_document) {
  const std::string text = encode(ErrorView{"invalid", "bad \xff byte", ""});
  EXPECT_TRUE(decode<ErrorView>(text));
}

TEST(Errors, kinds_survive_the_wire) {
  for (int kind = 0; kind <= static_cast<int>(base::ErrorKind::kSystem); ++kind) {
    const base::Error error{static_cast<base::ErrorKind>(kind), "m", "r", 0};
    EXPECT_EQ(to_error(to_view(error)), error);
  }
}

}  // namespace
}  // namespace mesh::api
