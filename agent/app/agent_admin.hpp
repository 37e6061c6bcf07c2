// SPDX-License-Identifier: Apache-2.0
// The agent's answers to the admin API: gathers what threads published and what the kernel has, and lets views.hpp say
// it. Runs on the control loop.
#pragma once

#include <string>

#include "app/admin_backend.hpp"
#include "app/agent.hpp"
#include "app/kernel_view.hpp"
#include "app/validate.hpp"
#include "app/views.hpp"

namespace mesh::app {

class AgentAdmin final : public AdminBackend {
 public:
  explicit AgentAdmin(Agent& agent);

  api::VersionView version() override;
  api::Status status() override;
  api::SourceList sources() override;
  base::Result<api::ServiceList> services(const api::ListRequest& request) override;
  base::Result<api::EndpointList> endpoints(const api::ListRequest& request) override;
  base::Result<api::ExplainView> explain(const api::ExplainRequest& request) override;
  base::Result<api::BpfDump> dump(const api::DumpRequest& request) override;
  base::Result<api::BpfStats> stats() override;
  void diff(Reply<api::BpfDiff> reply) override;
  api::ConfigView config() override;
  std::string config_schema() override;
  api::LogView log_level() override;
  void metrics(Reply<std::string> reply) override;
  api::ReadyView ready() override;
  void connections(const api::ConnectionRequest& request, Reply<std::string> reply) override;
  void flows(const api::FlowRequest& request, Reply<std::string> reply) override;
  void traffic(const api::TrafficRequest& request, Reply<std::string> reply) override;
  void history(const api::HistoryRequest& request, Reply<std::string> reply) override;
  api::DrainList drains() override;
  base::Result<api::DrainList> drain(const api::DrainRequest& request) override;
  base::Result<api::PauseView> pause(const api::PauseRequest& request, const std::string& by) override;
  base::Result<api::PauseView> resume(const api::ResumeRequest& request, const std::string& by) override;
  base::Result<api::LogView> set_log_level(const api::LogView& request) override;
  void reload(Reply<api::ReloadView> reply) override;
  void detach(Reply<api::DetachView> reply) override;

 private:
  struct Page;
  base::Result<Page> page_of(const api::ListRequest& request, const Reconciled& reconciled) const;
  /// Calls `use` with the facts of each route, with fresh health.
  template <typename Use>
  void with_facts(const std::vector<model::ServiceRoutePtr>& routes, Use use);
  base::Result<api::PauseView> set_pause(const std::string& service, std::uint64_t until_ns, const std::string& by);
  void add_hooks(api::Status& status);
  void add_canary(api::Status& status);
  void add_apply(api::Status& status, const Reconciled& reconciled);
  void add_drift(api::Status& status, const Reconciled& reconciled);
  [[nodiscard]] SourceStatuses source_statuses();
  std::vector<api::MapFill> map_fill(const Reconciled& reconciled);

  Agent& agent_;
  KernelView kernel_;
};

}  // namespace mesh::app
