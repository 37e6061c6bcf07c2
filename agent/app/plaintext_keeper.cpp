// SPDX-License-Identifier: Apache-2.0
#include "app/plaintext_keeper.hpp"

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "relay/plaintext.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"plaintext"};
constexpr auto kSameEnd = std::chrono::seconds(1);
constexpr base::Duration kForGood = base::Duration::max();

base::Duration until_of(const relay::PlaintextVerdict& verdict, Moment now) {
  if (!verdict.end) return verdict.taken ? kForGood : base::Duration::zero();
  return std::max(base::Duration::zero(), now.boot + (*verdict.end - now.wall));
}

api::PlaintextView view_of(const std::string& service, const relay::PlaintextVerdict& verdict, base::WallTime now) {
  api::PlaintextView view{.service = service, .taken = verdict.taken};
  if (!verdict.end) return view;
  view.ends_at = base::format_rfc3339(*verdict.end);
  view.ends_in_s = std::chrono::duration<double>(*verdict.end - now).count();
  return view;
}

}  // namespace

PlaintextPlan plan_plaintext(const relay::MeshSettings& mesh, const std::vector<api::RelayService>& services,
                             const std::function<std::uint32_t(const std::string& service)>& number_of, Moment now,
                             const datapath::GuardedEndpoints& before) {
  PlaintextPlan plan;
  std::map<std::string_view, const api::RelayService*> routed;
  for (const api::RelayService& one : services) routed[one.name] = &one;
  for (const relay::MeshService& one : mesh.services) {
    if (one.plaintext == relay::Plaintext::kUnwatched) continue;
    const relay::PlaintextVerdict verdict = judge_plaintext(one, now.wall);
    const auto known = routed.find(one.service);
    const bool usable = known != routed.end() && known->second->error.empty();
    const std::string& name = usable ? known->second->full_name : one.service;
    plan.services.push_back(view_of(name, verdict, now.wall));
    if (!usable) continue;
    const datapath::GuardedEndpoint wanted{.until = until_of(verdict, now), .service = number_of(name)};
    for (const std::string& text : known->second->members) {
      const auto address = base::SocketAddress::parse(text);
      if (!address) continue;
      const auto [place, is_new] = plan.guarded.try_emplace(*address, wanted);
      if (!is_new && wanted.until < place->second.until) place->second = wanted;
    }
  }
  for (auto& [address, wanted] : plan.guarded) {
    const auto known = before.find(address);
    if (known == before.end() || wanted.until == kForGood || known->second.until == kForGood) continue;
    const bool same_kind = (wanted.until == base::Duration::zero()) == (known->second.until == base::Duration::zero());
    if (same_kind && std::chrono::abs(wanted.until - known->second.until) < kSameEnd)
      wanted.until = known->second.until;
  }
  return plan;
}

void PlaintextKeeper::update(const relay::MeshSettings& mesh, const std::vector<api::RelayService>& services,
                             Moment now) {
  const auto number_of = [&](const std::string& service) {
    return numbers_.try_emplace(service, static_cast<std::uint32_t>(numbers_.size() + 1)).first->second;
  };
  PlaintextPlan plan = plan_plaintext(mesh, services, number_of, now, guarded_);
  const auto guarded = guard(plan.guarded);
  guarded_ = std::move(plan.guarded);
  const std::string error = guarded || plan.services.empty() ? "" : guarded.error().to_string();
  if (std::exchange(error_, error) != error && !error.empty()) {
    kLog.error("plaintext to workloads of the mesh is not as ordered", {{"err", error}});
  }
  for (api::PlaintextView& service : plan.services) {
    service.error = error;
    count(service);
  }
  view_ = std::move(plan.services);
}

base::Result<void> PlaintextKeeper::guard(const datapath::GuardedEndpoints& wanted) {
  if (!guard_) guard_ = MESH_TRY(make_guard_());
  return guard_->update(wanted);
}

void PlaintextKeeper::count(api::PlaintextView& service) {
  const auto number = numbers_.find(service.service);
  if (!guard_ || number == numbers_.end()) return;
  const auto counts = guard_->counts(number->second);
  if (!counts) return;  // none of its endpoints is known
  service.connections = counts->taken;
  service.refused = counts->refused;
  if (!counts->source) return;
  service.source = counts->source->to_string();
  if ((service.taken ? service.connections : service.refused) == 0) return;
  const std::string what = service.taken ? "plaintext taken" : "plaintext refused";
  if (!said_.first(service.service + " " + service.source + " " + what)) return;
  kLog.warn(what + "; not said again", {{"service", service.service},
                                        {"source", service.source},
                                        {"until", service.ends_at},
                                        {"remedy", "let that client use the mesh"}});
}

}  // namespace mesh::app
