// SPDX-License-Identifier: Apache-2.0
// `relay.identities:` of the configuration.
#pragma once

#include "discovery/keys.hpp"
#include "relay/settings.hpp"

namespace mesh::app {

extern const discovery::Table kIdentityTable;  // relay::ClientIdentity

/// The whole list, into relay::Settings; with what no single key can check.
void decode_client_identities(discovery::Decoder& decoder, const discovery::Key& key, const discovery::Value& value,
                              void* target);
/// Whether it is a pair of files, or a folder alone.
[[nodiscard]] bool names_a_certificate(const relay::CertificatePair& pair);

}  // namespace mesh::app
