// SPDX-License-Identifier: Apache-2.0
// What people write to name services on a command line: NAME, NAME:PORT, ADDR:PORT or a URL.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "model/snapshot.hpp"

namespace mesh::app {

struct Target {
  std::string name;                            ///< Empty if an address was given.
  std::optional<std::uint16_t> port;           ///< With a name.
  std::optional<base::SocketAddress> address;  ///< Instead of a name.

  /// "orders", "orders:80", "240.64.0.10:80", "[fd00::1]:80", "http://orders/x", "https://240.64.0.10". A URL without a
  /// port means its scheme's: http 80, https 443, redis 6379, postgres(ql) 5432.
  static base::Result<Target> parse(std::string_view text);

  [[nodiscard]] bool matches(const model::Service& service) const;
};

/// The services of a snapshot that the text names, without the canary's; kNotFound with near names as remedy if a name
/// was given that nothing has. For an address that is no service the list is empty: that is an answer, not an error.
base::Result<std::vector<model::ServicePtr>> find_services(const model::Snapshot& snapshot, const Target& target);

}  // namespace mesh::app
