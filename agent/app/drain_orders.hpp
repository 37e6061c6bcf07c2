// SPDX-License-Identifier: Apache-2.0
// What operators ordered with `meshctl drain`: read from a request, kept in a file over restarts. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/drain.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "health/drain.hpp"
#include "model/snapshot.hpp"

namespace mesh::app {

inline constexpr std::size_t kDrainOrdersMax = 10'000;

struct DrainCommand {
  std::vector<health::EndpointKey> endpoints;  ///< At least one.
  health::DrainOrder order;
  bool undo = false;
};

/// Which endpoints a request means: those of the snapshot, and, to undo, those that have an order although they are no
/// endpoints any more. kNotFound if there is none, kInvalid for a text that can't be read.
base::Result<DrainCommand> read_drain(const api::DrainRequest& request, const model::Snapshot& snapshot,
                                      const health::DrainOrders& orders, base::WallTime now);
/// The orders after the command. kExhausted beyond kDrainOrdersMax.
base::Result<health::DrainOrders> with_drain(health::DrainOrders orders, const DrainCommand& command);

std::string encode_orders(const health::DrainOrders& orders);
/// kInvalid: not what encode_orders() writes.
base::Result<health::DrainOrders> decode_orders(std::string_view text);

}  // namespace mesh::app
