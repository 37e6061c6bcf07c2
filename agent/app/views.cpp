// SPDX-License-Identifier: Apache-2.0
#include "app/views.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "datapath/records.hpp"
#include "mesh_abi.h"

namespace mesh::app {
namespace {

double seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::optional<double> ago(base::WallTime time, base::WallTime now) {
  if (time == base::WallTime{}) return std::nullopt;
  return std::max(0.0, seconds(now - time));
}

std::string when(base::WallTime time) { return time == base::WallTime{} ? std::string() : base::format_rfc3339(time); }

std::string describe_interval(std::chrono::milliseconds interval) {
  return interval.count() % 1000 == 0 ? fmt::format("{}s", interval.count() / 1000)
                                      : fmt::format("{}ms", interval.count());
}

const datapath::BackendIndex::Entry* backend_of(const ServiceFacts& facts, const base::SocketAddress& address) {
  for (const auto& entry : facts.backends) {
    if (datapath::address_of(entry.backend) == address) return &entry;
  }
  return nullptr;
}

}  // namespace

std::string describe_probe(const model::ProbePolicy* probe) {
  if (probe == nullptr) return {};
  std::string text(model::to_string(probe->type));
  if (probe->type == model::ProbeType::kHttp || probe->type == model::ProbeType::kHttps) text += " " + probe->path;
  if (probe->type == model::ProbeType::kGrpc && !probe->grpc_service.empty()) text += " " + probe->grpc_service;
  return text + " every " + describe_interval(probe->interval);
}

std::string describe_pause(std::uint64_t pass_until_ns, base::WallTime now) {
  if (pass_until_ns == 0) return {};
  if (pass_until_ns == MESH_FOREVER) return "forever";
  const auto until = base::TimePoint(base::Duration(static_cast<std::int64_t>(pass_until_ns)));
  const auto left = until - base::steady_now();
  return left <= base::Duration::zero() ? std::string() : base::format_rfc3339(now + left);
}

std::vector<model::ServicePart> parts_of(const model::Service& service) {
  if (!service.parts.empty()) return service.parts;
  return {{service.source, service.origin, service.only_confirmed}};
}

api::ServiceView service_view(const ServiceFacts& facts, base::WallTime now) {
  const model::Service& service = *facts.route.service;
  api::ServiceView view;
  view.name = service.name;
  view.frontend = service.frontend.to_string();
  view.algorithm = model::to_string(service.algorithm);
  view.hash_key = model::to_string(service.hash_key);
  view.maglev_size = service.algorithm == model::Algorithm::kMaglev ? service.maglev_size : 0;
  view.affinity_timeout_s = static_cast<std::uint64_t>(service.affinity_timeout.count());
  view.probe = describe_probe(service.probe.get());
  view.source = service.source;
  view.origin = service.origin;
  const model::SourceStatus* oldest = nullptr;
  for (const model::ServicePart& part : parts_of(service)) {
    view.only_confirmed = view.only_confirmed || part.only_confirmed;
    if (facts.sources == nullptr) continue;
    const auto found = facts.sources->find(part.source);
    if (found == facts.sources->end()) continue;
    if (oldest == nullptr || found->second.state > oldest->state) oldest = &found->second;
  }
  if (oldest != nullptr) {
    view.source_state = model::to_string(oldest->state);
    view.source_synced_ago_s = ago(oldest->synced_at, now);
  }
  view.service_id = facts.service_id;
  view.endpoints = service.endpoints.size();
  view.eligible = facts.route.routes.size();
  view.panic = facts.route.panic;
  view.paused_until = describe_pause(facts.pass_until_ns, now);
  view.counters = facts.counters;
  return view;
}

std::vector<api::EndpointView> endpoint_views(const ServiceFacts& facts, base::WallTime now) {
  const model::Service& service = *facts.route.service;
  std::vector<api::EndpointView> views;
  views.reserve(service.endpoints.size());
  for (std::size_t index = 0; index < service.endpoints.size(); ++index) {
    const model::Endpoint& endpoint = service.endpoints[index];
    api::EndpointView& view = views.emplace_back();
    view.service = service.name;
    view.frontend = service.frontend.to_string();
    view.address = endpoint.address.to_string();
    view.weight = endpoint.weight;
    view.zone = endpoint.zone;
    view.node = endpoint.node;
    view.tier = endpoint.tier;
    view.source = service.parts.empty() ? service.source : service.parts[endpoint.part].source;
    view.eligibility = model::to_string(facts.route.eligibility[index]);
    view.verdict = model::to_string(model::Verdict::kUnknown);
    view.reason = model::to_string(model::ProbeReason::kNone);
    if (const auto* health = facts.health ? facts.health->find(endpoint.address) : nullptr) {
      view.verdict = model::to_string(health->verdict);
      view.reason = model::to_string(health->reason);
      view.detail = health->detail;
      view.checked_ago_s = ago(health->checked_at, now);
      view.since = when(health->since);
      view.streak = health->streak;
    }
    if (const auto* standing = facts.route.standing ? facts.route.standing->find(endpoint.address) : nullptr) {
      if (standing->ejection != model::Ejection::kNone) view.ejection = model::to_string(standing->ejection);
      view.ejections = standing->ejections;
      view.ejected_until = when(standing->until);
      view.weight_percent = standing->share_percent;
      view.standing = standing->reason;
      view.standing_since = when(standing->since);
    }
    if (const auto* backend = backend_of(facts, endpoint.address)) {
      view.backend_id = backend->id;
      view.picks = facts.picks(backend->id);
      const auto share = facts.tables.shares.find(backend->id);
      view.share = share == facts.tables.shares.end() ? 0.0 : share->second;
    }
  }
  return views;
}

std::vector<api::RefusalView> refusal_views(const model::Refusals& refusals) {
  std::vector<api::RefusalView> views;
  for (const model::Refusal& one : refusals.newest_first()) {
    views.push_back({one.client, one.what, one.version, one.why, when(one.at), one.times});
  }
  return views;
}

api::SourceView source_view(const model::SourceStatus& source, base::WallTime now) {
  api::SourceView view;
  view.name = source.name;
  view.type = source.type;
  view.state = model::to_string(source.state);
  view.since = when(source.since);
  view.synced_at = when(source.synced_at);
  view.synced_ago_s = ago(source.synced_at, now);
  view.updates = source.updates;
  view.errors = source.errors;
  for (std::size_t i = 0; i < source.errors_by_kind.size(); ++i) {
    if (source.errors_by_kind[i] == 0) continue;
    view.errors_by_kind.push_back(
        {std::string(api::to_string(static_cast<base::ErrorKind>(i))), source.errors_by_kind[i]});
  }
  if (source.max_stale) view.max_stale_s = static_cast<std::uint64_t>(source.max_stale->count());
  view.only_confirmed = source.only_confirmed;
  view.services = source.services;
  view.endpoints = source.endpoints;
  if (source.error) {
    view.error = source.error->message;
    view.remedy = source.error->remedy;
  }
  view.refused = source.refusals.total();
  view.refusals = refusal_views(source.refusals);
  return view;
}

std::vector<api::ConflictView> conflict_views(const model::Snapshot& snapshot) {
  std::vector<api::ConflictView> views;
  for (const auto& conflict : snapshot.conflicts) {
    views.push_back({conflict.frontend.to_string(), conflict.winner, conflict.loser});
  }
  return views;
}

}  // namespace mesh::app
