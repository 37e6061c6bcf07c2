// SPDX-License-Identifier: Apache-2.0
// Keys that session tickets are sealed with. All workers of a relay share them, and its successor gets them, so that a
// client resumes wherever it comes back to.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::tls {

struct TicketKey {
  std::array<std::uint8_t, 16> name{};  ///< Stands in front of each ticket.
  std::array<std::uint8_t, 32> cipher{};
  std::array<std::uint8_t, 32> mac{};
  base::WallTime made{};
  bool operator==(const TicketKey&) const = default;
};

/// Newest first: the first seals, all of them open. Plain data; wiped when it goes.
struct TicketKeys {
  std::vector<TicketKey> keys;

  TicketKeys() = default;
  TicketKeys(const TicketKeys&) = default;
  TicketKeys& operator=(const TicketKeys&) = default;
  ~TicketKeys();
  bool operator==(const TicketKeys&) const = default;
};

inline constexpr std::chrono::hours kTicketKeyLife{12};  ///< How long a key seals.
inline constexpr std::size_t kTicketKeysKept = 3;
inline constexpr std::chrono::hours kTicketLife{24};  ///< How long a ticket is good: while its key is kept.

/// A new key from the system's random source.
TicketKey make_ticket_key(base::WallTime now);
/// Puts a new key in front if the first has sealed long enough (or there is none), and forgets the oldest. True if so.
bool rotate(TicketKeys& keys, base::WallTime now);

/// For a successor, over a socket that only it reads.
std::string encode(const TicketKeys& keys);
base::Result<TicketKeys> decode_ticket_keys(std::string_view bytes);  ///< kInvalid if they are none.

}  // namespace mesh::tls
