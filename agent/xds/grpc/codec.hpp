// SPDX-License-Identifier: Apache-2.0
// Plain values to messages of Envoy's API, and back.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "xds/message.hpp"
#include "xds/proto/discovery.pb.h"
#include "xds/session.hpp"

namespace mesh::xds {

envoy::service::discovery::v3::DiscoveryRequest to_message(const Request& request);
/// Nothing: it asks for a type that is not one of Type.
std::optional<Request> from_message(const envoy::service::discovery::v3::DiscoveryRequest& message);
envoy::service::discovery::v3::DiscoveryResponse to_message(const Reply& reply);
Answer from_message(const envoy::service::discovery::v3::DiscoveryResponse& response);

}  // namespace mesh::xds
