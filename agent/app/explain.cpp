// SPDX-License-Identifier: Apache-2.0
#include "app/explain.hpp"

#include <fmt/format.h>

#include <map>
#include <string_view>

#include "datapath/counters.hpp"
#include "mesh_abi.h"
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

void describe_choice(const datapath::Explanation& picked, const datapath::ExplainClient& client,
                     api::ExplainResult& result) {
  if (picked.by_affinity) {
    result.choice = "fixed";
    result.why = "this client's session stays on its backend";
  } else if (picked.algorithm == MESH_ROUND_ROBIN) {
    result.choice = "rotation";
    result.why = "backends take turns; the pick is the one whose turn it is now";
  } else if (picked.algorithm == MESH_WEIGHTED_RANDOM) {
    result.choice = "random";
    result.why = "each connect draws anew; the shares say how often";
  } else {
    result.choice = "fixed";
    result.why = "the hash of this client's key decides";
  }
  if (result.choice == "fixed") result.client_key = describe_key(picked.hash_key, client);
  if (result.choice != "random") result.pick = picked.backend.to_string();
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
    result.why = datapath::reason_text(picked.reason);
    const std::string ineligible = describe_ineligible(facts.route);
    if (picked.reason == MESH_REASON_NO_BACKEND) {
      result.why += facts.route.service->endpoints.empty() ? ": it has no endpoints" : ": " + ineligible;
    }
  } else {
    result.decision = "balanced";
    describe_choice(picked, context.client, result);
  }
  return result;
}

}  // namespace mesh::app
