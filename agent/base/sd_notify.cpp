// SPDX-License-Identifier: Apache-2.0
#include "base/sd_notify.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>

namespace mesh::base {
namespace {

std::optional<std::uint64_t> take_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view view = text;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  const bool whole = error == std::errc{} && end == view.data() + view.size();
  ::unsetenv(name);
  return whole ? std::optional(value) : std::nullopt;
}

/// A status is one line.
std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

}  // namespace

Result<ServiceNotifier> ServiceNotifier::from_environment() {
  ServiceNotifier notifier;
  const auto watchdog_us = take_number("WATCHDOG_USEC");
  const auto watchdog_pid = take_number("WATCHDOG_PID");
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return notifier;
  notifier.path_ = path;
  ::unsetenv("NOTIFY_SOCKET");
  if ((notifier.path_[0] != '/' && notifier.path_[0] != '@') ||
      notifier.path_.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(ErrorKind::kInvalid, "read NOTIFY_SOCKET '" + notifier.path_ + "': not a path of a unix socket",
                "unset NOTIFY_SOCKET, or start meshd from systemd");
  }
  notifier.socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!notifier.socket_.valid()) return fail_errno(errno, "create the socket for sd_notify");
  if (watchdog_us && *watchdog_us > 0 && (!watchdog_pid || *watchdog_pid == static_cast<std::uint64_t>(::getpid()))) {
    notifier.watchdog_interval_ = std::chrono::microseconds(*watchdog_us / 2);
  }
  return notifier;
}

void ServiceNotifier::ready(std::string_view status) { send("READY=1\nSTATUS=" + one_line(status)); }

void ServiceNotifier::status(std::string_view status) { send("STATUS=" + one_line(status)); }

void ServiceNotifier::reloading() {
  const auto since_boot = std::chrono::duration_cast<std::chrono::microseconds>(steady_now().time_since_epoch());
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(since_boot.count()));
}

void ServiceNotifier::stopping() { send("STOPPING=1"); }

void ServiceNotifier::watchdog() { send("WATCHDOG=1"); }

void ServiceNotifier::send(const std::string& message) {
  if (!socket_.valid()) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path_.begin(), path_.end(), address.sun_path);
  if (path_[0] == '@') address.sun_path[0] = '\0';
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size() + (path_[0] == '/' ? 1 : 0));
  // A service manager that does not read is its own watchdog's business: never wait for it, never fail because of it.
  (void)::sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address), length);
}

}  // namespace mesh::base
