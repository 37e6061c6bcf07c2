// SPDX-License-Identifier: Apache-2.0
// One listener as one worker has it. Immutable: a change makes a new one, and connections keep the one they began with.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "relay/gate.hpp"
#include "relay/mesh.hpp"
#include "relay/mesh_client.hpp"
#include "relay/settings.hpp"
#include "relay/stats.hpp"
#include "relay/target.hpp"
#include "tls/client.hpp"
#include "tls/name_index.hpp"
#include "tls/server.hpp"

namespace mesh::relay {

/// Places for connections of the whole process: each takes two descriptors.
struct Places {
  std::atomic<std::uint32_t> taken = 0;
  std::uint32_t all = 0;
};

struct Listener {
  ListenerSettings settings;
  std::shared_ptr<base::Fd> fd;  ///< Of the listening socket.
  std::shared_ptr<Gate> gate;
  std::shared_ptr<ListenerStats> stats;                   ///< This worker's.
  std::shared_ptr<const tls::ServerContext> tls;          ///< This worker's; null: TLS goes through.
  std::shared_ptr<const tls::ClientContext> backend_tls;  ///< This worker's, of mode originate; null: of no use.
  std::string backend_name;                               ///< That backends have to show a certificate for.
  tls::NameIndex names;                                   ///< Into `targets`.
  std::vector<TargetPtr> targets;                         ///< Of the routes; null: the service is not known.
  TargetPtr fallback;                                     ///< Of settings.service; null: none.
  std::shared_ptr<const MeshPolicies> mesh;               ///< Of mode mesh.
  std::shared_ptr<const MeshClient> mesh_client;          ///< Of mode mutual.
  std::shared_ptr<SaidOnce> said;                         ///< Of modes mesh and mutual; of all workers.

  [[nodiscard]] const TargetPtr& target_for(std::string_view server_name) const {
    const auto route = names.find(server_name);
    return route ? targets[*route] : fallback;
  }
};

using ListenerPtr = std::shared_ptr<const Listener>;

}  // namespace mesh::relay
