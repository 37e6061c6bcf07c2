// SPDX-License-Identifier: Apache-2.0
// What the relay tells the agent of the endpoints that its connections go to, and what the agent makes of it: who fails
// is ejected and who is left is drained, as with connections that the kernel made.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "api/relay.hpp"
#include "health/drain.hpp"
#include "health/outlier.hpp"
#include "relay/endpoint_load.hpp"
#include "relay/worker.hpp"

namespace mesh::app {

/// On the relay's side: those that connections went to.
std::vector<api::RelayEndpointView> endpoint_views(relay::EndpointLoads& loads);
void leave_endpoints(const api::RelayLeave& leave, const relay::EndpointLoads& loads,
                     std::span<const std::unique_ptr<relay::Worker>> workers);
/// To be called every second.
void end_aged(const relay::EndpointLoads& loads, std::span<const std::unique_ptr<relay::Worker>> workers);

/// Of all relays, by endpoint: counters since it was asked last.
using RelayedNews = std::map<health::EndpointKey, api::RelayEndpointView>;

/// What that means for its service's ejection.
health::Experience experience_of(const base::SocketAddress& endpoint, const api::RelayEndpointView& news,
                                 const model::EjectionPolicy& policy);

/// On the agent's side: puts together what relays report. Of one thread.
class RelayedEndpoints {
 public:
  using Reporter = const void*;  ///< Who reports; another relay is another one.

  /// Of what a relay says first nobody knows when it happened: that is no news.
  void take(Reporter reporter, const std::vector<api::RelayEndpointView>& endpoints);
  void forget(Reporter reporter) { reports_.erase(reporter); }

  [[nodiscard]] RelayedNews take_news();
  /// Endpoints with connections, and how many.
  [[nodiscard]] std::vector<health::RelayedConnections> open() const;

 private:
  using Report = std::map<health::EndpointKey, api::RelayEndpointView>;
  std::map<Reporter, Report> reports_;
  RelayedNews news_;
};

}  // namespace mesh::app
