// SPDX-License-Identifier: Apache-2.0
// Whether one more connection may begin: the limits of a listener, shared by all workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "relay/settings.hpp"

namespace mesh::relay {

/// Why a connection is closed at once.
enum class Refusal : std::uint8_t { kConnections, kSource, kRate };

class Gate {
 public:
  /// From any thread; connections that are in keep their place.
  void set_limits(const Limits& limits);

  /// Takes a place, unless a limit is reached.
  [[nodiscard]] std::optional<Refusal> enter(base::TimePoint now);
  void leave();
  enum class Source : std::uint8_t {
    kRefused,  ///< It has too many.
    kCounted,  ///< leave_source() gives the place back.
    kFree,     ///< No limit is set.
  };
  /// For a connection that is in, once its source is known.
  [[nodiscard]] Source enter_source(const base::IpAddress& source);
  void leave_source(const base::IpAddress& source);

  [[nodiscard]] std::uint32_t active() const { return active_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] bool take_token(base::TimePoint now);

  std::atomic<std::uint32_t> active_ = 0;
  std::atomic<std::uint32_t> connections_max_ = 0;
  std::atomic<std::uint32_t> per_source_max_ = 0;
  std::atomic<std::int64_t> token_ns_ = 0;    ///< Time that one handshake takes up of the rate; 0: any number.
  std::atomic<std::int64_t> paid_until_ = 0;  ///< Time up to which the rate is used up, a second of burst included.
  std::mutex mutex_;
  std::unordered_map<base::IpAddress, std::uint32_t> sources_;  ///< Guarded by mutex_; kept while a limit is set.
};

}  // namespace mesh::relay
