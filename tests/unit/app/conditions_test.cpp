// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "app/views.hpp"

namespace mesh::app {
namespace {

api::Status good_status() {
  api::Status status;
  status.mode = "active";
  for (const char* hook : {"connect4", "connect6"}) {
    status.hooks.push_back({.cgroup = "/shop", .hook = hook, .program_id = 7, .attached = true, .effective = true});
  }
  for (const char* path : {"tcp4", "udp4"}) {
    status.canary.push_back({.cgroup = "/shop", .path = path, .result = "ok", .checked_ago_s = 0.5});
  }
  status.maps.push_back({.name = "slots", .used = 10, .size = 100});
  status.apply.generation_desired = status.apply.generation_kernel = 3;
  status.sources.push_back({.name = "file", .state = "synced"});
  return status;
}

std::vector<std::string> names(const api::Status& status) {
  std::vector<std::string> names;
  for (const auto& condition : conditions_of(status)) names.push_back(condition.severity + " " + condition.name);
  return names;
}

using Names = std::vector<std::string>;

TEST(Conditions, a_good_status_has_none) { EXPECT_EQ(names(good_status()), Names{}); }

TEST(Conditions, a_cgroup_that_is_not_there_is_one_condition) {
  api::Status status = good_status();
  for (auto& hook : status.hooks) {
    hook.attached = false;
    hook.detail = "No such file or directory";
  }
  for (auto& canary : status.canary) canary.result = "failed";
  EXPECT_EQ(names(status), Names{"degraded hook_not_attached"});
}

TEST(Conditions, a_tracepoint_without_its_program_degrades_and_keeps_the_hooks_out_of_it) {
  api::Status status = good_status();
  status.hooks.push_back({.cgroup = "tracepoint", .hook = "inet_sk_error_report", .detail = "not attached"});
  ASSERT_EQ(names(status), Names{"degraded tracepoint_not_attached"});
  EXPECT_EQ(conditions_of(status).front().message.find("tracepoint inet_sk_error_report: not attached;"), 0U);
}

TEST(Conditions, a_map_without_a_fill_is_never_full) {
  api::Status status = good_status();
  status.maps.push_back({.name = "control", .used = std::nullopt, .size = 1});
  EXPECT_EQ(names(status), Names{});
}

TEST(Conditions, a_cgroup_where_nothing_runs_is_a_notice_that_names_it_and_since_when) {
  api::Status status = good_status();
  status.cgroups = {{"/shop", true, ""}, {"/shpo", false, "2026-01-02T03:04:05Z"}, {"/later", std::nullopt, ""}};
  ASSERT_EQ(names(status), Names{"notice cgroup_empty"});
  const std::string message = conditions_of(status).front().message;
  EXPECT_NE(message.find("/shpo since 2026-01-02T03:04:05Z"), std::string::npos) << message;
}

TEST(Conditions, a_state_that_is_not_saved_degrades_and_hands_on_the_remedy) {
  api::Status status = good_status();
  status.saved_state = {"", "write /var/lib/meshd: No space left on device", "make room"};
  EXPECT_EQ(names(status), Names{"degraded state_not_saved"});
  EXPECT_EQ(conditions_of(status).front().remedy, "make room");
}

TEST(Conditions, an_identity_that_can_not_be_used_degrades) {
  api::Status status = good_status();
  status.relay.report.identities = {{.id = "spiffe://a.test/shop"}};
  EXPECT_EQ(names(status), Names{});
  status.relay.report.identities[0].error = "no such file";
  EXPECT_EQ(names(status), Names{"degraded identity_refused"});
}

TEST(Conditions, plaintext_that_will_be_or_is_refused_is_a_notice_and_one_that_nobody_sees_degrades) {
  api::Status status = good_status();
  constexpr double kDay = 86400;
  api::PlaintextView& web = status.relay.plaintext.emplace_back(
      api::PlaintextView{.service = "web:80", .taken = true, .ends_in_s = 90 * kDay});
  web.connections = 5;
  EXPECT_EQ(names(status), Names{});
  web.ends_in_s = 13 * kDay;
  EXPECT_EQ(names(status), Names{"notice plaintext_ends"});
  web.connections = 0;
  EXPECT_EQ(names(status), Names{}) << "nobody minds";
  web.taken = false;
  web.ends_in_s = -1;
  web.refused = 1;
  EXPECT_EQ(names(status), Names{"notice plaintext_refused"});
  web.ends_in_s.reset();
  EXPECT_EQ(names(status), Names{}) << "as it is meant to be";
  web.error = "no program for it";
  EXPECT_EQ(names(status), Names{"degraded plaintext_unguarded"});
}

TEST(Conditions, a_certificate_that_is_refused_or_has_expired_is_a_notice) {
  api::Status status = good_status();
  status.metrics_certificate = {"/etc/meshd/metrics.pem", "2026-01-02T03:04:05Z", 60, ""};
  EXPECT_EQ(names(status), Names{});
  status.metrics_certificate.error = "not that of the certificate";
  EXPECT_EQ(names(status), Names{"notice certificate_refused"});
  status.metrics_certificate = {"/etc/meshd/metrics.pem", "2026-01-02T03:04:05Z", -1, ""};
  EXPECT_EQ(names(status), Names{"notice certificate_expired"});
}

TEST(Conditions, a_failed_canary_degrades_although_all_hooks_look_right) {
  api::Status status = good_status();
  status.canary.back().result = "failed";
  EXPECT_EQ(names(status), Names{"degraded canary_failed"});
}

TEST(Conditions, a_canary_that_went_silent_degrades_unless_the_mesh_is_paused) {
  api::Status status = good_status();
  status.canary.back().checked_ago_s = 60;
  EXPECT_EQ(names(status), Names{"degraded canary_old"});
  status.mode = "pass_through";
  EXPECT_EQ(names(status), Names{"degraded paused"});
}

TEST(Conditions, a_paused_service_is_a_notice_that_names_it_and_its_end) {
  api::Status status = good_status();
  status.paused = {{"orders 240.64.0.10:80/tcp", "2026-11-20T12:00:00.000Z"}};
  ASSERT_EQ(names(status), Names{"notice paused"});
  EXPECT_EQ(conditions_of(status).front().message,
            "service orders 240.64.0.10:80/tcp is paused: connects to it pass untouched until "
            "2026-11-20T12:00:00.000Z");
  status.paused.push_back({"cache 240.64.0.11:80/tcp", "forever"});
  EXPECT_EQ(conditions_of(status).front().message.find("2 services are paused"), 0U);
}

TEST(Conditions, a_full_table_degrades_and_a_nearly_full_one_is_a_notice) {
  api::Status status = good_status();
  status.maps.front().used = 85;
  EXPECT_EQ(names(status), Names{"notice map_high"});
  status.maps.front().used = 100;
  EXPECT_EQ(names(status), Names{"degraded map_full"});
}

TEST(Conditions, what_could_not_be_applied_or_is_not_fresh_degrades) {
  api::Status status = good_status();
  status.apply.error = "slots: 12 needed, 10 free";
  status.sources.front().state = "stale";
  status.config.last_reload_ok = false;
  EXPECT_EQ(names(status), (Names{"degraded apply_failed", "degraded config_invalid", "degraded source_stale"}));
  for (const auto& condition : conditions_of(status)) EXPECT_FALSE(condition.message.empty());
}

TEST(Conditions, a_repair_is_noted_for_a_while_and_a_failed_one_degrades) {
  api::Status status = good_status();
  status.drift = {.tables_repaired = 2, .last = "slot 7", .last_ago_s = 5};
  EXPECT_EQ(names(status), Names{"notice drift_repaired"});
  EXPECT_NE(conditions_of(status).front().message.find("slot 7"), std::string::npos);
  status.drift.last_ago_s = 3600;
  EXPECT_EQ(names(status), Names{});
  status.drift.error = "write map slots: no";
  EXPECT_EQ(names(status), Names{"degraded drift"});
}

TEST(Conditions, programs_that_the_kernel_refuses_are_a_note) {
  api::Status status = good_status();
  status.refused = {{"kill", "R0 !read_ok"}};
  EXPECT_EQ(names(status), Names{"notice program_refused"});
  EXPECT_NE(conditions_of(status).front().message.find("R0 !read_ok"), std::string::npos);
}

TEST(Conditions, a_change_that_waits_too_long_is_a_stuck_writer) {
  api::Status status = good_status();
  status.apply.behind_s = 29;
  EXPECT_EQ(names(status), Names{});
  status.apply.behind_s = 31;
  EXPECT_EQ(names(status), Names{"degraded writer_stuck"});
}

}  // namespace
}  // namespace mesh::app
