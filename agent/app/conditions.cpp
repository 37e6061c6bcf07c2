// SPDX-License-Identifier: Apache-2.0
// When is the agent degraded? The list, from the worst down.
#include <fmt/format.h>

#include "app/views.hpp"

namespace mesh::app {
namespace {

constexpr double kCanaryOldAfterS = 10;  // two rounds that should have been, and then some
constexpr double kMapHighAt = 0.8;

class Conditions {
 public:
  void degraded(std::string name, std::string message, std::string remedy) {
    list.push_back({std::move(name), "degraded", std::move(message), std::move(remedy)});
  }
  void notice(std::string name, std::string message, std::string remedy) {
    notices_.push_back({std::move(name), "notice", std::move(message), std::move(remedy)});
  }
  std::vector<api::Condition> take() {
    list.insert(list.end(), notices_.begin(), notices_.end());
    return std::move(list);
  }
  std::vector<api::Condition> list;

 private:
  std::vector<api::Condition> notices_;
};

void look_at_hooks(const api::Status& status, Conditions& found) {
  for (const auto& hook : status.hooks) {
    if (!hook.attached) {
      found.degraded(
          "hook_not_attached", fmt::format("{} is not attached to {}: {}", hook.hook, hook.cgroup, hook.detail),
          "start what runs in that cgroup, or correct agent.cgroups; the agent attaches as soon as it exists");
    } else if (hook.effective.has_value() && !*hook.effective) {
      found.degraded("hook_not_effective",
                     fmt::format("{} on {} does not run: {}", hook.hook, hook.cgroup, hook.detail),
                     "`meshctl check` lists who else is on this hook");
    }
  }
  for (const auto& canary : status.canary) {
    if (canary.result == "failed") {
      found.degraded("canary_failed", fmt::format("canary {} in {}: {}", canary.path, canary.cgroup, canary.detail),
                     "connects from this cgroup are not balanced; `meshctl check` looks for the cause");
    } else if (status.mode == "active" && canary.checked_ago_s.value_or(0) > kCanaryOldAfterS) {
      found.degraded("canary_old",
                     fmt::format("canary {} in {} was last heard of {:.0f}s ago", canary.path, canary.cgroup,
                                 *canary.checked_ago_s),
                     "the log says why it does not run");
    }
  }
}

void look_at_tables(const api::Status& status, Conditions& found) {
  if (!status.apply.error.empty()) {
    found.degraded("apply_failed", "the last change is not in the kernel: " + status.apply.error,
                   "the last good tables stay in force; the message names the setting");
  } else if (status.apply.generation_desired != status.apply.generation_kernel) {
    found.notice("apply_pending", "a change is on its way into the kernel", "");
  }
  for (const auto& map : status.maps) {
    if (map.size == 0 || static_cast<double>(map.used) < kMapHighAt * static_cast<double>(map.size)) continue;
    const auto message = fmt::format("{} holds {} of {} entries", map.name, map.used, map.size);
    if (map.used >= map.size) {
      found.degraded("map_full", message,
                     "raise its size in agent.limits and restart the agent; connections go on meanwhile");
    } else {
      found.notice("map_high", message, "raise its size in agent.limits before it is full");
    }
  }
}

void look_at_inputs(const api::Status& status, Conditions& found) {
  if (!status.config.last_reload_ok) {
    found.degraded("config_invalid",
                   fmt::format("the configuration was refused: {} errors; the last good one stays in force",
                               status.config.errors.size()),
                   "`meshctl config validate` shows each with file and line");
  }
  if (status.config.from_state) {
    found.degraded("config_from_state",
                   "started from the last good snapshot on disk, because the configuration is broken",
                   "correct it, then `meshctl reload`");
  }
  if (!status.config.needs_restart.empty()) {
    found.notice(
        "restart_needed",
        "changed keys wait for the next start: " + fmt::format("{}", fmt::join(status.config.needs_restart, ", ")),
        "restart the agent; no connection is lost");
  }
  for (const auto& source : status.sources) {
    if (source.state != "stale" && source.state != "failed") continue;
    found.degraded("source_" + source.state,
                   fmt::format("source {} is {}: {}", source.name, source.state, source.error), source.remedy);
  }
  for (const auto& conflict : status.conflicts) {
    found.notice(
        "conflict",
        fmt::format("{} is claimed twice: {} wins over {}", conflict.frontend, conflict.winner, conflict.loser),
        "give one of them another address or port");
  }
}

}  // namespace

std::vector<api::Condition> conditions_of(const api::Status& status) {
  Conditions found;
  if (status.mode == "pass_through") {
    found.degraded("paused",
                   "the mesh is paused: connects pass untouched" +
                       (status.pass_until.empty() ? std::string() : " until " + status.pass_until),
                   "`meshctl resume` ends it");
  }
  look_at_hooks(status, found);
  look_at_tables(status, found);
  look_at_inputs(status, found);
  if (status.probes.services_in_panic > 0) {
    found.notice("panic",
                 fmt::format("{} services in panic: too few endpoints are up, so probe results are ignored for them",
                             status.probes.services_in_panic),
                 "`meshctl services` marks them; see panic_threshold");
  }
  return found.take();
}

}  // namespace mesh::app
