// SPDX-License-Identifier: Apache-2.0
// The sd_notify(3) protocol without libsystemd: datagrams to the socket in $NOTIFY_SOCKET. Without that variable (no
// service manager) every call does nothing and succeeds.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::base {

class ServiceNotifier {
 public:
  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment, so that no child
  /// speaks for the agent.
  static Result<ServiceNotifier> from_environment();

  void ready(std::string_view status);  ///< READY=1; also ends a reload
  void status(std::string_view status);
  void reloading();  ///< RELOADING=1 with MONOTONIC_USEC
  void stopping();
  void watchdog();

  [[nodiscard]] bool enabled() const { return socket_.valid(); }
  /// How often watchdog() is wanted: half of WATCHDOG_USEC. Nothing if the service manager does not watch us.
  [[nodiscard]] std::optional<Duration> watchdog_interval() const { return watchdog_interval_; }

 private:
  void send(const std::string& message);

  Fd socket_;
  std::string path_;  ///< as in $NOTIFY_SOCKET: "/run/..." or "@abstract"
  std::optional<Duration> watchdog_interval_;
};

}  // namespace mesh::base
