// SPDX-License-Identifier: Apache-2.0
// An agent of the first hour's example, without a kernel: what it answers can be changed, what it was told is kept.
#pragma once

#include <string>
#include <vector>

#include "app/admin_backend.hpp"

namespace mesh::test {

class FakeAdminBackend final : public app::AdminBackend {
 public:
  FakeAdminBackend();

  api::VersionView version() override { return {"0.1.0", "abc123", "clang 19", "1.0"}; }
  api::Status status() override { return status_value; }
  api::SourceList sources() override { return {status_value.sources, status_value.conflicts}; }
  base::Result<api::ServiceList> services(const api::ListRequest& request) override;
  base::Result<api::EndpointList> endpoints(const api::ListRequest& request) override;
  base::Result<api::ExplainView> explain(const api::ExplainRequest& request) override;
  base::Result<api::BpfDump> dump(const api::DumpRequest& request) override;
  base::Result<api::BpfStats> stats() override { return stats_value; }
  void diff(app::Reply<api::BpfDiff> reply) override { reply(diff_value); }
  api::ConfigView config() override;
  std::string config_schema() override { return R"({"$schema":"http://json-schema.org/draft-07/schema#"})"; }
  api::DrainList drains() override { return drains_value; }
  base::Result<api::DrainList> drain(const api::DrainRequest& request) override;
  api::LogView log_level() override { return {level}; }
  void metrics(app::Reply<std::string> reply) override { reply(metrics_text); }
  api::ReadyView ready() override { return ready_value; }
  void connections(const api::ConnectionRequest& request, app::Reply<std::string> reply) override;
  void flows(const api::FlowRequest& request, app::Reply<std::string> reply) override;
  void traffic(const api::TrafficRequest& request, app::Reply<std::string> reply) override;
  void history(const api::HistoryRequest& request, app::Reply<std::string> reply) override;
  base::Result<api::PauseView> pause(const api::PauseRequest& request, const std::string& by) override;
  base::Result<api::PauseView> resume(const api::ResumeRequest& request, const std::string& by) override;
  base::Result<api::LogView> set_log_level(const api::LogView& request) override;
  /// Kept in `late_reload` when `reload_is_late`, for the test to answer.
  void reload(app::Reply<api::ReloadView> reply) override;
  void detach(app::Reply<api::DetachView> reply) override { reply(api::DetachView{{"link connect4 /shop"}, {}}); }

  api::Status status_value;
  std::vector<api::ServiceView> service_values;
  std::vector<api::EndpointView> endpoint_values;
  api::BpfStats stats_value;
  api::ConnectionList connections_value;
  std::vector<api::ConnectionRequest> connection_requests;
  api::FlowList flows_value;
  std::vector<api::FlowRequest> flow_requests;
  api::TrafficList traffic_value;
  api::HistoryList history_value{{{"2026-11-20T12:04:31.000Z", "probe", "orders 240.64.0.10:80/tcp", "10.0.0.12:8080",
                                   "up -> down: refused x3", 1},
                                  {"2026-11-20T12:04:33.000Z", "plan", "", "", "generation 7 applied in 0.5ms", 3}}};
  api::DrainList drains_value{.items = {{.service = "orders",
                                         .frontend = "240.64.0.10:80/tcp",
                                         .endpoint = "10.0.0.12:8080",
                                         .reason = "drained",
                                         .ordered = true,
                                         .since = "2026-11-20T12:04:31.000Z"}}};
  api::BpfDiff diff_value{.in_sync = true, .generation = 7, .compared = 42};
  api::ReadyView ready_value{true, {{"hooks", true, "10/10 effective"}, {"sources", true, "file synced"}}};
  api::ReloadView reload_value{.ok = true, .services = 2, .endpoints = 3};
  std::string metrics_text = "# HELP mesh_up x\n# TYPE mesh_up gauge\nmesh_up 1\n";
  std::string level = "info";
  bool reload_is_late = false;
  app::Reply<api::ReloadView> late_reload;

  std::vector<std::string> changes;  ///< "pause orders 600"
  std::vector<api::ExplainRequest> explain_requests;
};

}  // namespace mesh::test
