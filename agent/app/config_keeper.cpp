// SPDX-License-Identifier: Apache-2.0
#include "app/config_keeper.hpp"

#include <poll.h>

#include <utility>

#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"config"};

}  // namespace

std::vector<std::string> keys_that_need_restart(const AgentSettings& running, const AgentSettings& loaded) {
  std::vector<std::string> keys;
  const auto look = [&](const char* key, auto AgentSettings::* member) {
    if (running.*member != loaded.*member) keys.emplace_back(key);
  };
  look("agent.cgroups", &AgentSettings::cgroups);
  look("agent.cgroup_root", &AgentSettings::cgroup_root);
  look("agent.bpffs", &AgentSettings::bpffs);
  look("agent.run_dir", &AgentSettings::run_dir);
  look("agent.state_dir", &AgentSettings::state_dir);
  look("agent.socket", &AgentSettings::socket);
  look("agent.socket_group", &AgentSettings::socket_group);
  look("agent.exempt_cgroup", &AgentSettings::exempt_cgroup);
  look("agent.metrics.listen", &AgentSettings::metrics_listen);
  look("agent.metrics.token_file", &AgentSettings::metrics_token_file);
  look("agent.metrics.tls", &AgentSettings::metrics_tls);
  look("agent.metrics.max_series", &AgentSettings::metrics_max_series);
  look("agent.metrics.per_backend", &AgentSettings::metrics_per_backend);
  look("agent.metrics.istio", &AgentSettings::metrics_istio);
  look("agent.metrics.istio_cluster", &AgentSettings::metrics_istio_cluster);
  look("agent.zone", &AgentSettings::zone);
  look("agent.node", &AgentSettings::node);
  look("agent.loop", &AgentSettings::loop);
  look("agent.log.format", &AgentSettings::log_format);
  look("agent.audit_interval", &AgentSettings::audit_interval);
  look("agent.limits", &AgentSettings::limits);
  look("agent.canary", &AgentSettings::canary);
  look("agent.xds", &AgentSettings::xds);
  look("agent.vip_route", &AgentSettings::vip_route);
  if (running.vips4 != loaded.vips4 || running.vips6 != loaded.vips6) keys.emplace_back("agent.vip_range");
  return keys;
}

ConfigKeeper::ConfigKeeper(io::Loop& loop, StartConfig start, OnReload on_reload)
    : loop_(loop), on_reload_(std::move(on_reload)) {
  state_.path = std::move(start.path);
  state_.running = start.config.agent;
  state_.config = std::move(start.config);
  state_.loaded_at = start.loaded_at;
  state_.last_ok = !start.refused;
  state_.from_state = start.refused.has_value();
  state_.findings = std::move(start.findings);
}

ConfigKeeper::~ConfigKeeper() {
  if (parser_.joinable()) parser_.join();
}

base::Result<void> ConfigKeeper::watch() {
  watcher_.emplace(MESH_TRY(discovery::FileWatcher::make()));
  watcher_->add(state_.path);
  const auto slash = state_.path.rfind('/');
  watcher_->add((slash == std::string::npos ? std::string(".") : state_.path.substr(0, slash)) + "/conf.d");
  loop_.poll(watcher_->fd(), POLLIN, file_event_);
  return {};
}

void ConfigKeeper::on_file_event(std::int32_t result) {
  if (result < 0) return;  // the loop is going down
  if (!watcher_->take_changes().empty()) reload(Cause::kFileEvent, {});
  loop_.poll(watcher_->fd(), POLLIN, file_event_);
}

void ConfigKeeper::reload(Cause cause, Done done) {
  if (!wanted_ || cause == Cause::kRequest) wanted_ = cause;
  if (done) waiting_.push_back(std::move(done));
  if (!parsing_) start_thread();
}

void ConfigKeeper::start_thread() {
  parsing_ = true;
  under_way_ = std::exchange(waiting_, {});
  const Cause cause = *std::exchange(wanted_, std::nullopt);
  if (parser_.joinable()) parser_.join();
  parser_ = std::thread([this, cause, path = state_.path] {
    loop_.post([this, cause, result = load_config(path)]() mutable { finish(std::move(result), cause); });
  });
}

void ConfigKeeper::finish(LoadResult result, Cause cause) {
  parsing_ = false;
  state_.reloaded_at = base::wall_now();
  ++state_.reloads;
  state_.last_ok = result.good();
  state_.findings = std::move(result.errors);
  for (const Diagnostic& warning : result.warnings) kLog.warn("configuration", {{"finding", warning.to_string()}});
  if (state_.last_ok) {
    state_.config = std::move(result.config);
    state_.loaded_at = state_.reloaded_at;
    state_.from_state = false;
    state_.needs_restart = keys_that_need_restart(state_.running, state_.config.agent);
    kLog.info(
        "configuration loaded",
        {{"path", state_.path}, {"services", state_.config.services.size()}, {"files", state_.config.files.size()}});
  } else {
    ++state_.failures;
    for (const Diagnostic& finding : state_.findings)
      kLog.error("configuration refused", {{"finding", finding.to_string()}});
  }
  on_reload_({state_.last_ok, cause});
  for (Done& done : std::exchange(under_way_, {})) done();
  if (wanted_) start_thread();
}

}  // namespace mesh::app
