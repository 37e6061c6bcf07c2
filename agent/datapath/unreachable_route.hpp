// SPDX-License-Identifier: Apache-2.0
// A route that says "unreachable" for a range of virtual addresses: what connects there without a hook fails at once
// instead of waiting for a router that knows nothing of it. A hook rewrites the address before any route is looked up.
#pragma once

#include "base/address.hpp"
#include "base/error.hpp"

namespace mesh::datapath {

/// Makes the route to the first `bits` of `ip` (of 32 or 128) in the main table of this network namespace, with the
/// worst metric there is, so that any other route to the range is used first. There already is fine.
base::Result<void> add_unreachable_route(const base::IpAddress& ip, unsigned bits);

/// Takes away what add_unreachable_route() made, and nothing else. Not there is fine.
base::Result<void> remove_unreachable_route(const base::IpAddress& ip, unsigned bits);

}  // namespace mesh::datapath
