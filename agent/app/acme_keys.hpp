// SPDX-License-Identifier: Apache-2.0
// `relay.acme:` of the configuration.
#pragma once

#include "acme/settings.hpp"
#include "discovery/keys.hpp"

namespace mesh::app {

extern const discovery::Table kAcmeTable;             // acme::Settings
extern const discovery::Table kAcmeCertificateTable;  // acme::CertificateSettings
extern const discovery::Table kAcmeBindingTable;      // acme::AccountBinding

/// The whole of it, into relay::Settings; with what no single key can check.
void decode_acme(discovery::Decoder& decoder, const discovery::Key& key, const discovery::Value& value, void* target);

}  // namespace mesh::app
