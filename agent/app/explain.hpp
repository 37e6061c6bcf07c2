// SPDX-License-Identifier: Apache-2.0
// Where would this connect() go, and why? The pick itself is the kernel's own, on the live tables; this file puts the
// question and the answer into words.
#pragma once

#include <string>
#include <vector>

#include "api/services.hpp"
#include "app/views.hpp"
#include "datapath/loader.hpp"

namespace mesh::app {

/// What is known of the client, and of the mesh around it.
struct ExplainContext {
  datapath::ExplainClient client;
  std::string cgroup;    ///< Empty: unknown.
  bool attached = true;  ///< Whether an attached cgroup covers it; true if unknown.
  std::uint64_t exempt_cgroup_id = 0;
};

/// One service's answer. `picked` is what the kernel's pick said for this client.
api::ExplainResult explain_service(const ServiceFacts& facts, const datapath::Explanation& picked,
                                   const ExplainContext& context, base::WallTime now);

/// A line for each registry that says so: how fresh that is, and what becomes of its endpoints when it gets old.
std::vector<std::string> describe_sources(const model::Service& service, const SourceStatuses& sources,
                                          base::WallTime now);

/// The answer for an address that is no service.
api::ExplainResult explain_untouched(const std::string& address);

/// "2 probe_down, 1 draining"; "" if all endpoints are eligible.
std::string describe_ineligible(const model::ServiceRoute& route);

}  // namespace mesh::app
