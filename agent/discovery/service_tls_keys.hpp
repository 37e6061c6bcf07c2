// SPDX-License-Identifier: Apache-2.0
// What `tls` of a service looks like in a file: off, originate, or a map of keys.
#pragma once

#include <memory>
#include <string_view>

#include "discovery/keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

extern const Table kServiceTlsTable;  // model::TlsPolicy

/// Reads off, a mode or a map into a policy that holds what is inherited.
void decode_service_tls(Decoder& decoder, const Value& value, std::shared_ptr<const model::TlsPolicy>& policy);
/// "off" for null.
Value encode_service_tls(const model::TlsPolicy* policy, Secrets secrets);

/// Whether a certificate can be for it: a DNS name in lower case, or an address.
[[nodiscard]] bool is_server_name(std::string_view text);

}  // namespace mesh::discovery
