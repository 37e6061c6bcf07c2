// SPDX-License-Identifier: Apache-2.0
// `relay:` of the configuration. The agent hands the same text on to the relay, so both read it by the same table.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "discovery/keys.hpp"
#include "relay/settings.hpp"

namespace mesh::app {

extern const discovery::Table kRelayTable;        // relay::Settings
extern const discovery::Table kListenerTable;     // relay::ListenerSettings
extern const discovery::Table kNameRouteTable;    // relay::NameRoute
extern const discovery::Table kCertificateTable;  // relay::CertificatePair
extern const discovery::Table kTrustTable;        // relay::TrustBundle
extern const discovery::Table kMeshServiceTable;  // relay::MeshService

/// The whole section, with what its keys can't check alone.
void decode_relay(discovery::Decoder& decoder, const discovery::Value& value, relay::Settings& settings);
/// As JSON that parse_relay_settings() reads back.
std::string encode_relay_settings(const relay::Settings& settings);
base::Result<relay::Settings> parse_relay_settings(std::string_view json);

}  // namespace mesh::app
