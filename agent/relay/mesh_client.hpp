// SPDX-License-Identifier: Apache-2.0
// What the client's side of the mesh has to know for a service with `tls: mutual`, on one worker. Immutable.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "relay/identity.hpp"
#include "tls/client.hpp"

namespace mesh::relay {

/// Who may be a client, and as whom.
struct MeshIdentities {
  std::vector<IdentityRule> rules;
  std::vector<std::shared_ptr<const tls::ClientContext>> contexts;  ///< Of the rules; null: its files are of no use.
};

struct MeshClient {
  std::shared_ptr<const MeshIdentities> identities;
  std::vector<tls::SpiffePattern> servers;  ///< Who may answer.
  std::uint16_t port = 0;                   ///< Of other nodes' relays.
  /// Who made the other end of an accepted socket.
  std::function<base::Result<Owner>(int accepted)> find_owner;

  [[nodiscard]] bool may_answer(const tls::SpiffeId& server) const {
    return std::ranges::any_of(servers, [&](const auto& one) { return one.matches(server); });
  }
};

/// One connection of the client's side.
struct MeshPeering {
  Owner owner;
  tls::SpiffeId client;
  std::shared_ptr<const tls::ClientContext> context;
  std::shared_ptr<const tls::ClientContext> checked_by;  ///< Who found the server good last.
};

}  // namespace mesh::relay
