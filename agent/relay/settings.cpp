// SPDX-License-Identifier: Apache-2.0
#include "relay/settings.hpp"

namespace mesh::relay {

ListenerSettings mesh_listener(const MeshSettings& mesh) {
  ListenerSettings listener{.name = std::string(kMeshListener), .address = mesh.address, .mode = Mode::kMesh};
  listener.tls.certificates = {mesh.identity};
  listener.tls.trust = mesh.trust;
  listener.tls.min_version = "1.3";
  listener.tls.alpn = {std::string(kMeshProtocol)};
  listener.limits = mesh.limits;
  return listener;
}

TlsSettings client_identity(const MeshSettings& mesh, const ClientIdentity& identity) {
  return {.certificates = {identity.identity},
          .trust = mesh.trust,
          .min_version = "1.3",
          .alpn = {std::string(kMeshProtocol)},
          .client = {}};
}

}  // namespace mesh::relay
