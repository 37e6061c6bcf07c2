// SPDX-License-Identifier: Apache-2.0
// Services that the agent makes for itself (the canary's, the stand-ins for resolvers): no list shows them.
#pragma once

#include <string_view>

namespace mesh::app {

inline constexpr std::string_view kInternalSource = "meshd";  ///< model::Service::source

inline constexpr std::string_view kCanaryOffers = "canary";  ///< what the reconciler knows them by
inline constexpr std::string_view kNamesOffers = "names";

}  // namespace mesh::app
