// SPDX-License-Identifier: Apache-2.0
// Plain values to messages of Envoy's API, and back.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "xds/message.hpp"
#include "xds/proto/discovery.pb.h"

namespace mesh::xds {

envoy::service::discovery::v3::DiscoveryRequest to_message(const Request& request);
Answer from_message(const envoy::service::discovery::v3::DiscoveryResponse& response);

}  // namespace mesh::xds
