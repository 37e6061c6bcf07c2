// SPDX-License-Identifier: Apache-2.0
#include "base/sd_notify.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

namespace mesh::base {
namespace {

/// A service manager's end, on an abstract socket.
class Manager {
 public:
  Manager() : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socklen_t length = sizeof(sa_family_t);  // the kernel chooses an abstract name
    MESH_ASSERT(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0);
    length = sizeof(address);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    const std::string name(address.sun_path + 1, length - sizeof(sa_family_t) - 1);
    ::setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  }
  ~Manager() { ::unsetenv("NOTIFY_SOCKET"); }

  std::string next() {
    char buffer[512];
    const ssize_t count = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    return count < 0 ? "" : std::string(buffer, static_cast<std::size_t>(count));
  }

 private:
  Fd fd_;
};

TEST(ServiceNotifier, says_what_systemd_expects) {
  Manager manager;
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  auto notifier = ServiceNotifier::from_environment();
  ASSERT_TRUE(notifier) << notifier.error().to_string();
  EXPECT_TRUE(notifier->enabled());
  EXPECT_EQ(notifier->watchdog_interval(), std::chrono::seconds(15));
  EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr) << "children must not speak for the agent";
  notifier->ready("2 services\nhealthy");
  EXPECT_EQ(manager.next(), "READY=1\nSTATUS=2 services healthy");
  notifier->reloading();
  EXPECT_EQ(manager.next().find("RELOADING=1\nMONOTONIC_USEC="), 0U);
  notifier->watchdog();
  EXPECT_EQ(manager.next(), "WATCHDOG=1");
  notifier->stopping();
  EXPECT_EQ(manager.next(), "STOPPING=1");
}

TEST(ServiceNotifier, a_watchdog_meant_for_another_process_is_ignored) {
  Manager manager;
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  const auto notifier = ServiceNotifier::from_environment();
  ASSERT_TRUE(notifier);
  EXPECT_FALSE(notifier->watchdog_interval());
}

TEST(ServiceNotifier, without_a_service_manager_nothing_happens) {
  ::unsetenv("NOTIFY_SOCKET");
  auto notifier = ServiceNotifier::from_environment();
  ASSERT_TRUE(notifier);
  EXPECT_FALSE(notifier->enabled());
  notifier->ready("x");
}

TEST(ServiceNotifier, a_socket_that_is_no_path_is_refused) {
  ::setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
  const auto notifier = ServiceNotifier::from_environment();
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_FALSE(notifier);
}

}  // namespace
}  // namespace mesh::base
