// SPDX-License-Identifier: Apache-2.0
// What one probe says and expects on its connection, without I/O: HTTP and gRPC are Exchanges; a TCP probe has none.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "model/health_view.hpp"

namespace mesh::health {

/// All that one probe may receive from a peer: 16 KiB, over TLS twice that because the handshake counts.
inline constexpr std::size_t kProbeBytesMax = 16 * 1024;
inline constexpr std::size_t kTlsProbeBytesMax = 2 * kProbeBytesMax;

struct Outcome {
  model::ProbeReason reason = model::ProbeReason::kNone;
  std::string detail;  ///< "http 200"; short.
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Bytes to send, until taken by sent().
  [[nodiscard]] virtual std::span<const std::byte> output() const = 0;
  virtual void sent(std::size_t count) = 0;
  /// Bytes from the peer; an outcome ends the exchange.
  virtual std::optional<Outcome> feed(std::span<const std::byte> bytes) = 0;
  /// The peer ended its side: an outcome in any case.
  virtual Outcome closed() = 0;
  /// After the outcome: another exchange may use this connection.
  [[nodiscard]] virtual bool reusable() const { return false; }
  /// What is being waited for, for a timeout's detail: "no response", "slow response".
  [[nodiscard]] virtual std::string waiting_for() const = 0;
};

}  // namespace mesh::health
