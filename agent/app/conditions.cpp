// SPDX-License-Identifier: Apache-2.0
// When is the agent degraded? The list, from the worst down.
#include <fmt/format.h>

#include <map>

#include "app/views.hpp"
#include "base/plural.hpp"
#include "datapath/tracers.hpp"

namespace mesh::app {
namespace {

constexpr double kCanaryOldAfterS = 10;  // two rounds that should have been, and then some
constexpr double kMapHighAt = 0.8;
constexpr double kStuckAfterS = 30;         // a big compile takes a second or two
constexpr double kDriftSaidForS = 10 * 60;  // a repair is said for so long

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

/// What one attached cgroup's hooks and canary connections have in common, so that one cause is one condition.
struct CgroupFindings {
  std::vector<std::string> unattached, ineffective, failed, old;
  std::size_t hooks = 0;
  std::string attach_detail, effective_detail, canary_detail;
};

void add_note(std::vector<std::string>& names, std::string& detail, const std::string& name, const std::string& why) {
  names.push_back(name);
  if (detail.empty()) detail = why;
}

std::map<std::string, CgroupFindings> findings_by_cgroup(const api::Status& status) {
  std::map<std::string, CgroupFindings> by_cgroup;
  for (const auto& hook : status.hooks) {
    if (hook.cgroup == datapath::kTracerPlace) continue;
    CgroupFindings& cgroup = by_cgroup[hook.cgroup];
    ++cgroup.hooks;
    if (!hook.attached) {
      add_note(cgroup.unattached, cgroup.attach_detail, hook.hook, hook.detail);
    } else if (!hook.effective.value_or(true)) {
      add_note(cgroup.ineffective, cgroup.effective_detail, hook.hook, hook.detail);
    }
  }
  for (const auto& canary : status.canary) {
    CgroupFindings& cgroup = by_cgroup[canary.cgroup];
    if (canary.result == "failed") {
      add_note(cgroup.failed, cgroup.canary_detail, canary.path, canary.detail);
    } else if (status.mode == "active" && canary.checked_ago_s.value_or(0) > kCanaryOldAfterS) {
      cgroup.old.push_back(canary.path);
    }
  }
  return by_cgroup;
}

void look_at_hooks(const api::Status& status, Conditions& found) {
  for (const auto& [name, cgroup] : findings_by_cgroup(status)) {
    const bool nothing_attached = !cgroup.unattached.empty() && cgroup.unattached.size() == cgroup.hooks;
    if (nothing_attached) {
      found.degraded(
          "hook_not_attached", fmt::format("nothing is attached to {}: {}", name, cgroup.attach_detail),
          "start what runs in that cgroup, or correct agent.cgroups; the agent attaches as soon as it exists");
      continue;  // its canary can only fail
    }
    if (!cgroup.unattached.empty()) {
      found.degraded(
          "hook_not_attached",
          fmt::format("{} not attached to {}: {}", fmt::join(cgroup.unattached, ", "), name, cgroup.attach_detail),
          "somebody removed the links; the agent attaches again within a second, or its log says why not");
    }
    if (!cgroup.ineffective.empty()) {
      found.degraded("hook_not_effective",
                     fmt::format("{} on {} not run by the kernel: {}", fmt::join(cgroup.ineffective, ", "), name,
                                 cgroup.effective_detail),
                     "`meshctl check` lists who else is on these hooks");
    }
    if (!cgroup.failed.empty()) {
      found.degraded("canary_failed",
                     fmt::format("canary {} in {}: {}", fmt::join(cgroup.failed, ", "), name, cgroup.canary_detail),
                     "connects from this cgroup are not balanced; `meshctl check` looks for the cause");
    }
    if (!cgroup.old.empty()) {
      found.degraded("canary_old",
                     fmt::format("canary {} in {} has not been heard of for more than {} s",
                                 fmt::join(cgroup.old, ", "), name, kCanaryOldAfterS),
                     "the log says why it does not run");
    }
  }
}

void look_at_tracers(const api::Status& status, Conditions& found) {
  for (const auto& hook : status.hooks) {
    if (hook.cgroup != datapath::kTracerPlace || hook.attached) continue;
    found.degraded(
        "tracepoint_not_attached",
        fmt::format("tracepoint {}: {}; connections are balanced, and what becomes of them is seen less well",
                    hook.hook, hook.detail),
        "somebody removed the link; the agent attaches again within a second, or its log says why not");
  }
}

void look_at_cgroups(const api::Status& status, Conditions& found) {
  for (const auto& use : status.cgroups) {
    if (use.populated.value_or(true)) continue;
    found.notice("cgroup_empty",
                 fmt::format("nothing runs in {} since {}: its hooks are in place and no application uses them",
                             use.cgroup, use.since),
                 "start what runs there, or correct agent.cgroups: the line 0:: of /proc/PID/cgroup is where it is");
  }
}

void look_at_programs(const api::Status& status, Conditions& found) {
  for (const auto& refusal : status.refused) {
    found.notice("program_refused",
                 fmt::format("the kernel refuses the programs for {}: {}", refusal.feature, refusal.why),
                 "`meshctl check` says what is done without them; connections are balanced all the same");
  }
}

void look_at_tables(const api::Status& status, Conditions& found) {
  if (!status.apply.error.empty()) {
    found.degraded("apply_failed", "the last change is not in the kernel: " + status.apply.error,
                   "the last good tables stay in force; the message names the setting");
  } else if (status.apply.generation_desired != status.apply.generation_kernel) {
    found.notice("apply_pending", "a change is on its way into the kernel", "");
  }
  if (status.apply.behind_s > kStuckAfterS) {
    found.degraded("writer_stuck",
                   fmt::format("a change has been waiting for {:.0f} s to come into the kernel", status.apply.behind_s),
                   "the log says why; the last good tables stay in force. Restart the agent if nothing else helps");
  }
  const api::DriftView& drift = status.drift;
  if (drift.standing > 0 || !drift.error.empty()) {
    found.degraded("drift",
                   fmt::format("the kernel's tables differ from what is wanted and were not repaired: {}", drift.error),
                   "`meshctl bpf diff` shows how; the agent tries again at each audit_interval");
  } else if (drift.last_ago_s && *drift.last_ago_s < kDriftSaidForS) {
    found.notice("drift_repaired", describe_drift(drift), "somebody else writes to the tables: find out who");
  }
  for (const auto& map : status.maps) {
    const std::uint64_t used = map.used.value_or(0);
    if (map.size == 0 || static_cast<double>(used) < kMapHighAt * static_cast<double>(map.size)) continue;
    const auto message = fmt::format("{} holds {} of {} entries", map.name, used, map.size);
    if (used >= map.size) {
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
                   fmt::format("the configuration was refused: {}; the last good one stays in force",
                               base::counted(status.config.errors.size(), "error")),
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
  if (!status.saved_state.error.empty()) {
    found.degraded(
        "state_not_saved",
        "a reboot with a broken configuration would begin with an old state or none: " + status.saved_state.error,
        status.saved_state.remedy);
  }
  for (const auto& source : status.sources) {
    if (source.state != "stale" && source.state != "failed") continue;
    found.degraded("source_" + source.state,
                   fmt::format("source {} is {}: {}", source.name, source.state, source.error), source.remedy);
    if (source.only_confirmed) {
      found.degraded("source_unconfirmed",
                     fmt::format("source {} is stale for longer than max_stale: of its endpoints only those are used "
                                 "whose probe succeeds",
                                 source.name),
                     "let the registry answer again, or raise max_stale of the source");
    }
  }
  for (const auto& conflict : status.conflicts) {
    found.notice(
        "conflict",
        fmt::format("{} is claimed twice: {} wins over {}", conflict.frontend, conflict.winner, conflict.loser),
        "give one of them another address or port");
  }
}

void look_at_certificate(const api::CertificateView& certificate, Conditions& found) {
  if (!certificate.error.empty()) {
    found.notice(
        "certificate_refused",
        "the metrics listener's certificate is not taken and the one before stays in use: " + certificate.error,
        "correct the files; they are read again when they change");
  }
  if (certificate.expires_in_s.value_or(1) <= 0) {
    found.notice(
        "certificate_expired",
        fmt::format("the metrics listener's certificate {} has expired: {}", certificate.file, certificate.expires_at),
        "replace certificate and key; they are read again when they change");
  }
}

void look_at_relay(const api::RelayView& relay, Conditions& found) {
  if (relay.wanted && !relay.connected) {
    found.degraded("relay_away",
                   "no relay is connected: unless one serves with its last orders, nobody listens for TLS",
                   "`systemctl status meshd-relay` says why");
  }
  for (const api::RelayListenerView& listener : relay.report.listeners) {
    if (listener.error.empty()) continue;
    const std::string message = fmt::format("listener {} on {}: {}", listener.name, listener.address, listener.error);
    if (listener.state == "listening") {
      found.notice("listener_stale", message + "; the certificates before stay in use",
                   "correct the files; they are read again when they change");
    } else {
      found.degraded("listener_failed", message, "correct it; the relay tries again each second");
    }
  }
  for (const api::RelayIdentityView& identity : relay.report.identities) {
    if (identity.error.empty()) continue;
    found.degraded("identity_refused", fmt::format("the files of {} can't be used: {}", identity.id, identity.error),
                   "correct them; they are read again when they change, and those before stay in use");
  }
  for (const api::RelayListenerView& listener : relay.report.listeners) {
    for (const api::RelayCertificateView& certificate : listener.certificates) {
      if (certificate.expires_in_s.value_or(1) > 0) continue;
      found.notice("listener_certificate_expired",
                   fmt::format("listener {} shows {}, which has expired: {}", listener.name, certificate.file,
                               certificate.expires_at),
                   "replace certificate and key; they are read again when they change");
    }
    if (listener.lists_expire_in_s.value_or(1) <= 0) {
      found.notice(
          "revocation_list_expired",
          fmt::format("listener {} refuses all clients' certificates: a revocation list is out of date", listener.name),
          "fetch the lists of tls.client.crl again");
    }
  }
  for (const std::string& error : relay.socket_errors) {
    found.degraded("relay_absent", "a service with TLS is refused there, because the relay can't listen: " + error,
                   "end who has the port, or choose another agent.relay_port");
  }
  if (!relay.exempt_error.empty()) {
    found.notice("relay_not_exempt",
                 "the relay's own connections pass the hooks, and those to the address of a service are redirected: " +
                     relay.exempt_error,
                 "start the relay in a cgroup of its own");
  }
  for (const std::string& error : relay.errors) {
    found.notice("listener_leads_nowhere", "a listener of the relay refuses connections: " + error,
                 "correct service or routes of the listener");
  }
}

void look_at_plaintext(const std::vector<api::PlaintextView>& services, Conditions& found) {
  constexpr double kSoonS = 14 * 86400.0;
  for (const api::PlaintextView& one : services) {
    if (!one.error.empty()) {
      found.degraded("plaintext_unguarded",
                     fmt::format("plaintext to the workloads of {} may be neither counted nor refused: {}", one.service,
                                 one.error),
                     "the message says why; `meshctl check` what this kernel lacks");
      return;  // it is the same for all
    }
  }
  for (const api::PlaintextView& one : services) {
    if (!one.ends_in_s) continue;
    if (one.taken && *one.ends_in_s < kSoonS && one.connections > 0) {
      found.notice("plaintext_ends",
                   fmt::format("plaintext to the workloads of {} is refused from {} on, and {} came, the last from {}",
                               one.service, one.ends_at, base::counted(one.connections, "connection"), one.source),
                   "let these clients use the mesh, or set permissive_until to a later day");
    } else if (!one.taken && one.refused > 0) {
      found.notice("plaintext_refused",
                   fmt::format("plaintext to the workloads of {} is refused since {}, and {} came, the last from {}",
                               one.service, one.ends_at, base::counted(one.refused, "connection"), one.source),
                   "let these clients use the mesh; `plaintext: refuse` ends this notice");
    }
  }
}

}  // namespace

std::string describe_drift(const api::DriftView& drift) {
  if (!drift.last_ago_s) return "the tables were never found changed by others";
  return fmt::format("{} repaired since start, the last {:.0f} s ago: {}",
                     base::counted(drift.tables_repaired + drift.books_repaired, "difference"), *drift.last_ago_s,
                     drift.last);
}

std::optional<api::Condition> paused_condition(const api::Status& status) {
  if (status.paused.empty()) return std::nullopt;
  const api::PausedService& first = status.paused.front();
  const bool one = status.paused.size() == 1;
  return api::Condition{
      "paused", "notice",
      one ? fmt::format("service {} is paused: connects to it pass untouched until {}", first.service, first.until)
          : fmt::format("{} are paused: connects to them pass untouched, to {} until {}",
                        base::counted(status.paused.size(), "service"), first.service, first.until),
      one ? "`meshctl resume SERVICE` ends it" : "`meshctl services` marks them, `meshctl resume SERVICE` ends it"};
}

std::vector<api::Condition> conditions_of(const api::Status& status) {
  Conditions found;
  if (status.mode == "pass_through") {
    found.degraded("paused",
                   "the mesh is paused: connects pass untouched" +
                       (status.pass_until.empty() ? std::string() : " until " + status.pass_until),
                   "`meshctl resume` ends it");
  }
  look_at_hooks(status, found);
  look_at_tracers(status, found);
  look_at_cgroups(status, found);
  look_at_programs(status, found);
  look_at_tables(status, found);
  look_at_inputs(status, found);
  look_at_certificate(status.metrics_certificate, found);
  look_at_relay(status.relay, found);
  look_at_plaintext(status.relay.plaintext, found);
  if (status.probes.services_in_panic > 0) {
    found.notice("panic",
                 fmt::format("{} in panic: too few endpoints are up, so probe results are ignored there",
                             base::counted(status.probes.services_in_panic, "service")),
                 "`meshctl services` marks them; see panic_threshold");
  }
  if (auto paused = paused_condition(status)) {
    found.notice(std::move(paused->name), std::move(paused->message), std::move(paused->remedy));
  }
  return found.take();
}

}  // namespace mesh::app
