// SPDX-License-Identifier: Apache-2.0
// Endpoints that are being left: GET /v1/drains, POST /v1/drain.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

struct DrainRequest {
  static constexpr std::string_view kKind = "DrainRequest";
  std::string service;   ///< NAME, NAME:PORT or ADDR:PORT
  std::string endpoint;  ///< "10.0.0.11:8080", or an address alone: all its ports
  std::string timeout;   ///< "30s", "never"; empty: as the service says
  bool undo = false;
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("endpoint", self.endpoint);
    visit("timeout", self.timeout);
    visit("undo", self.undo);
  }
};

struct DrainView {
  std::string service;
  std::string frontend;  ///< "240.64.0.10:80/tcp"
  std::string endpoint;
  std::string reason;    ///< "removed", "draining", "drained", "down"
  bool ordered = false;  ///< by `meshctl drain`, which alone can undo it
  std::string since;
  std::string deadline;  ///< connections are reset then; empty: never
  std::uint64_t connections = 0;
  std::uint64_t reset = 0;  ///< since it began
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("frontend", self.frontend);
    visit("endpoint", self.endpoint);
    visit("reason", self.reason);
    visit("ordered", self.ordered);
    visit("since", self.since);
    visit("deadline", self.deadline);
    visit("connections", self.connections);
    visit("reset", self.reset);
  }
};

/// Connections that should be reset, in a network namespace that can't be entered.
struct UnreachableNamespace {
  std::uint64_t netns_cookie = 0;
  std::uint32_t pid = 0;  ///< that made one of them
  std::string command;
  std::uint64_t connections = 0;
  static void fields(auto& self, auto& visit) {
    visit("netns_cookie", self.netns_cookie);
    visit("pid", self.pid);
    visit("command", self.command);
    visit("connections", self.connections);
  }
};

struct DrainList {
  static constexpr std::string_view kKind = "DrainList";
  std::vector<DrainView> items;
  std::vector<UnreachableNamespace> unreachable;  ///< of the last pass
  std::string error;                              ///< of the last pass or of saving the orders, while it stands
  static void fields(auto& self, auto& visit) {
    visit("items", self.items);
    visit("unreachable", self.unreachable);
    visit("error", self.error);
  }
};

}  // namespace mesh::api
