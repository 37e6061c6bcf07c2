// SPDX-License-Identifier: Apache-2.0
// Weighted random as an alias table (M. D. Vose, "A linear algorithm for generating random numbers with a given
// distribution", 1991), in integers: no rounding before the one division that makes a threshold.
#pragma once

#include <cstdint>
#include <span>

#include "balance/table.hpp"

namespace mesh::balance {

inline constexpr std::uint32_t kAlwaysPick = 0xffffffff;

/// One column per weight (1 to 65535 each). A draw takes a column, then a 32-bit number: below the threshold the
/// column's pick, else its alias. A share differs from weight / sum by less than one part in 2^32 per column.
void build_weighted(std::span<const std::uint16_t> weights, Table& table);

}  // namespace mesh::balance
