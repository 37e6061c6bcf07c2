// SPDX-License-Identifier: Apache-2.0
#include "app/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "app/source_keeper.hpp"
#include "datapath/counters.hpp"
#include "datapath/records.hpp"
#include "mesh_load.h"
#include "mesh_reasons.h"

namespace mesh::app {
namespace {

std::string describe_key(std::uint8_t hash_key, const datapath::ExplainClient& client) {
  switch (hash_key) {
    case MESH_KEY_CGROUP:
      return fmt::format("cgroup id {}", client.cgroup_id);
    case MESH_KEY_UID:
      return fmt::format("user id {}", client.uid);
    case MESH_KEY_SOURCE_ADDRESS:
      return client.source.is_unspecified() ? "source address: not bound"
                                            : "source address " + client.source.to_string();
    default:
      return fmt::format("network namespace cookie {}", client.netns_cookie);
  }
}

std::string describe_load(const mesh_load& load, bool with_latency, const ServiceFacts& facts) {
  const auto found = std::ranges::find(facts.backends, load.backend_id, &datapath::BackendIndex::Entry::id);
  std::string text = found == facts.backends.end() ? fmt::format("backend {}", load.backend_id)
                                                   : datapath::address_of(found->backend).to_string();
  text += fmt::format(" ({} open", load.open);
  if (with_latency) {
    text += load.latency == 0
                ? ", latency unknown"
                : fmt::format(", {:.1f} ms", static_cast<double>(load.latency * MESH_LATENCY_UNIT_NS) / 1e6);
  }
  return text + ")";
}

/// What the two draws of this very pick were, the better one first.
std::string describe_comparison(const datapath::Explanation& picked, const ServiceFacts& facts) {
  const bool by_latency = picked.algorithm == MESH_LATENCY;
  std::string text = fmt::format("each connect draws two by weight and takes the one with less {}",
                                 by_latency ? "latency x open connections" : "open connections");
  const auto& [first, second] = picked.compared;
  if (first.backend_id == second.backend_id) return text + "; just now there was one to take";
  const bool second_won = picked.backend_id == second.backend_id;
  return text + fmt::format("; just now {} before {}", describe_load(second_won ? second : first, by_latency, facts),
                            describe_load(second_won ? first : second, by_latency, facts));
}

void describe_choice(const datapath::Explanation& picked, const datapath::ExplainClient& client,
                     const ServiceFacts& facts, api::ExplainResult& result) {
  if (picked.by_affinity) {
    result.choice = "fixed";
    result.why = "this client's session stays on its backend";
  } else if (picked.algorithm == MESH_ROUND_ROBIN) {
    result.choice = "rotation";
    result.why = "backends take turns; the pick is the one whose turn it is now";
  } else if (picked.algorithm == MESH_WEIGHTED_RANDOM) {
    result.choice = "random";
    result.why = "each connect draws anew; the shares say how often";
  } else if (picked.algorithm == MESH_LEAST_CONNECTIONS || picked.algorithm == MESH_LATENCY) {
    result.choice = "compared";
    result.why = describe_comparison(picked, facts);
  } else {
    result.choice = "fixed";
    result.why = "the hash of this client's key decides";
  }
  if (result.choice == "fixed") result.client_key = describe_key(picked.hash_key, client);
  if (result.choice != "random" && result.choice != "compared") result.pick = picked.backend.to_string();
}

}  // namespace

std::string describe_ineligible(const model::ServiceRoute& route) {
  std::map<std::string_view, unsigned> counts;
  for (const model::Eligibility eligibility : route.eligibility) {
    if (eligibility == model::Eligibility::kEligible || eligibility == model::Eligibility::kPanic) continue;
    ++counts[model::to_string(eligibility)];
  }
  std::string text;
  for (const auto& [name, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  return text;
}

std::vector<std::string> describe_sources(const model::Service& service, const SourceStatuses& sources,
                                          base::WallTime now) {
  std::vector<std::string> said;
  for (const model::ServicePart& part : parts_of(service)) {
    const auto found = sources.find(part.source);
    if (found == sources.end() || part.source == kFileSource) continue;
    const model::SourceStatus& source = found->second;
    std::string text = fmt::format("{} ({}): {}", part.source, part.origin, model::to_string(source.state));
    if (source.synced_at != base::WallTime{}) {
      text += fmt::format(", last answer {} ago", base::format_age(std::max(now - source.synced_at, base::Duration{})));
    }
    if (!source.max_stale) {
      text += "; max_stale is never: its endpoints are used however old they are";
    } else if (!part.only_confirmed) {
      text += fmt::format("; without an answer for {} only endpoints whose probe succeeds are used",
                          base::format_age(*source.max_stale));
    } else {
      text += fmt::format("; that is longer than max_stale ({}): only endpoints whose probe succeeds are used",
                          base::format_age(*source.max_stale));
      if (!service.probe) text += ", and as UDP without a probe none can be confirmed";
    }
    said.push_back(std::move(text));
  }
  return said;
}

api::ExplainResult explain_untouched(const std::string& address) {
  api::ExplainResult result;
  result.decision = "untouched";
  result.why = "no service has the address " + address + "; the connect passes as it is";
  return result;
}

api::ExplainResult explain_service(const ServiceFacts& facts, const datapath::Explanation& picked,
                                   const ExplainContext& context, base::WallTime now) {
  api::ExplainResult result;
  result.protocol = model::to_string(facts.route.service->frontend.protocol);
  result.service = service_view(facts, now);
  result.endpoints = endpoint_views(facts, now);
  if (facts.sources != nullptr) result.said = describe_sources(*facts.route.service, *facts.sources, now);
  if (!context.attached) {
    result.decision = "not_attached";
    result.why = "no attached cgroup covers " + context.cgroup + "; its connects pass untouched";
  } else if (context.exempt_cgroup_id != 0 && context.client.cgroup_id == context.exempt_cgroup_id) {
    result.decision = "exempt";
    result.why = "this is the agent's own cgroup; its connects pass untouched";
  } else if (picked.service_id == 0) {
    result.decision = "untouched";
    result.why = "the service is not in the kernel (yet); `meshctl status` says why";
  } else if (picked.reason == MESH_REASON_PAUSED) {
    result.decision = "paused";
    result.why = "the mesh or this service is paused; connects pass untouched";
  } else if (picked.reason != MESH_REASON_NONE) {
    result.decision = "refused";
    std::string_view why = datapath::reason_text(picked.reason);
    if (constexpr std::string_view kSaid = "; refused"; why.ends_with(kSaid)) why.remove_suffix(kSaid.size());
    result.why = why;
    const std::string ineligible = describe_ineligible(facts.route);
    if (picked.reason == MESH_REASON_NO_BACKEND) {
      result.why += facts.route.service->endpoints.empty() ? ": it has no endpoints" : ": " + ineligible;
    }
  } else {
    result.decision = "balanced";
    describe_choice(picked, context.client, facts, result);
    if (facts.route.service->is_relayed()) {
      result.why =
          "the relay takes it there, in the client's network namespace, and speaks TLS with an endpoint that it "
          "chooses; "
          "where it does not listen the connect is refused";
    }
  }
  return result;
}

}  // namespace mesh::app
